"""Stores for facts, one module for each."""
