"""The listener, and the WebSockets behind it: each endpoint with its protocol."""
