"""The ways in: one listener, and behind it the signaling door and the REST app."""
