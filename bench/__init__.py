"""How fast the server is, beside others that do the same work.

- A *server* (`servers`) is a process on a core of its own; what it costs is read from /proc.
- A *client* (`clients`) is a raw socket of the load generator, which has the other core to itself.
- A *sample* (`trial`) is one window of work: messages delivered, time, and CPU time on both sides.
- A *question* is one of the programs here; it answers with one table (`trial.Table`).
- The *report* (`report`) makes RESULTS.md and results.svg of all tables.

`nox -s bench` asks all questions, `nox -s bench -- relay` one; with `-- --quick` it only tries that all
works. The numbers are worth something when nothing else runs on the machine.
"""
