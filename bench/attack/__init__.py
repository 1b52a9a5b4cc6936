"""The server under attack: how others fare meanwhile, and what is given back afterwards.

`nox -s attack` runs every program here, `nox -s attack -- qr_codes 12.9` two of them, by name or number;
`--seconds 30` says how long each attacks (20), `--list` names them. `tests/test_attack.py` runs a short form
of each one. What is no attack on a running server is shown by tests alone: `SHOWN_BY_TESTS`.

One run (`harness`):

1. Two servers are started with the default settings, but for `TRUSTED_PROXIES=none`: the limits by address
   count loopback addresses then, and 127.0.0.9 and 127.0.0.10 stand for two attackers.
2. On the first, 20 pairs from addresses of their own talk (200 signals a second), and every quarter of a
   second a newcomer from a new address reads the readiness and opens a WebSocket. First they are alone: the
   phase `quiet`.
3. A process of its own attacks the first server: `attacked`. Then nobody does: `after`. This phase goes on
   until the memory is back.
4. The same process attacks the second server while the pairs talk on the first: `control`. What they notice
   then is the machine, and not the server. The short form leaves it out.

The short form looks at the server's loop in place of times (`steps`): no task may keep others from their turn
for long, counted in the CPU time that it takes.

Printed for each phase: p50, p99 and the longest time of a signal, newcomers let in, refused and failed, and
the first server's CPU share and memory. Each run ends with what is promised for all attacks
(`Report.broken_promises`: no talker is cut off, no newcomer refused, no traceback logged, memory given back;
in the short form also the longest step, in the long one the p99) and the program's own `check`.

How to add a program: one module in this package for one number of the issue. It has

- a docstring whose first line is the title, followed by what was seen before;
- `NUMBER = "12.6"`;
- `async def attack(target, seconds)`: attack for `seconds`, and return counts by name (or None). It is
  ended from outside soon after, so it needs no deadline for what hangs. It runs in a process of its own
  under Trio, and has no part in what is measured. `target` is a `tools.Target`; `tools` has sockets from
  any loopback address, WebSockets and frames, and `crowd`, which most attacks are. It may be as rude as it
  likes, but only to the target, and its addresses are 127.0.0.2 to 127.0.0.99 (`tools.ATTACKERS`);
- `def check(report)`: assert what is no timing, in both forms: `report.counts`, memory, metrics before and
  after (`report.metrics_before["peershare_connections…"]`), slots, the log. Bounds are generous, since the
  short form shares its machine with other tests. Nothing about latency or CPU: p99 is for the long form,
  which looks at it for every program.

and where it needs them

- `SETTINGS = {"MAX_CONNECTIONS": "100"}`: settings that are not the defaults, when they only shorten the
  way to a bound;
- `TLS = True`: the servers get a certificate, and everybody speaks TLS;
- `UNREAD_STDERR = True`: the servers' stderr is a pipe that nobody reads;
- `SHORT = 4.0`: seconds of the short form (2);
- `MEMORY_SLACK = 32`: MB above the beginning at which memory counts as given back (16);
- `STOPS_THE_SERVER = True`: the attack stops the process for a while (`target.pid`): signals may be late,
  never lost.

An attack on something else than a server (a client that hears rubbish) does it all in `attack`, and tells
by its counts.
"""

# Numbers of the issue for which there is no program, and the tests that show them.
SHOWN_BY_TESTS = {
    "12.19": (
        "Proxies as docs/proxies.md sets them up let no claim of a client's through, and keep the metrics in",
        "tests/test_proxy.py::test_the_forwarded_address_is_counted",
        "tests/test_proxy.py::test_12_19_metrics_are_the_operators",
        "tests/test_deploy.py::test_11_28_caddy_tells_clients_apart",
    ),
    "12.21": (
        "No version with a known fault is allowed or locked (and `nox -s audit`)",
        "tests/test_deploy.py::test_12_21_no_version_with_a_known_fault",
    ),
}
