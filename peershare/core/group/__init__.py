"""A group as one aggregate: its state, and a file for each concern.

- `facts`: what can happen to a group. Only they change it, so from them it can be rebuilt.
- `state`: the group, `apply` of a fact, `snapshot` and `restore`. `call`: the part of it that is its call.
- `commands`: what the server itself asks of a group, beside its members' messages.
- `membership`, `calls`, `mesh`: the handlers, which decide and return an `Outcome`. `handle` is the table of
  them, and `mesh_plan` the planner of `mesh`.
- `index`: what is known over all groups, kept up by facts.

A new concern is a file with handlers, a row for each in `handle`, its facts in `facts` and `state`, and their
rows in the store: docs/design.md, "A new concern of groups".
"""
