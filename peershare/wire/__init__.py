"""Turns text into messages and messages into frames, and says exactly what is wrong with bad text."""
