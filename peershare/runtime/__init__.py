"""Moves messages: the actor that owns the hub, and what every connection needs to live and to end."""
