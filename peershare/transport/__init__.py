"""Bytes of clients: sockets, request heads, HTTP/1.1, WebSockets. Nothing here knows what is said."""
