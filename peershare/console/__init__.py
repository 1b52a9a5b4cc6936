"""`peershare connect`: to talk to a server by hand, or from a script. docs/client.md.

syntax      One line for a message, typed or shown: pure, no I/O.
pipe        Lines from stdin, JSON to stdout.
terminal    A prompt with completion and history, and what is heard above it.
talk        A session between the two ends. `connect` is the way in.
"""

from peershare.console.talk import connect

__all__ = ["connect"]
