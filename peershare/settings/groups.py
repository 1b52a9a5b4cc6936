"""Groups and their members."""

import attrs

from peershare.settings.section import setting
from peershare.settings.types import Integer, Seconds


@attrs.frozen(slots=False)
class Groups:
    max_groups: int = setting(100_000, Integer(1, 10_000_000), "MAX_GROUPS", meaning="Groups at once.")
    max_group_size: int = setting(500, Integer(1, 1_000_000), "MAX_GROUP_SIZE", meaning="Members of a group.")
    empty_group_ttl: float = setting(
        30.0,
        Seconds(0, 86_400),
        "EMPTY_GROUP_TTL",
        unit="s",
        meaning="Time that a group waits for its members when the last connection was lost.",
    )
    group_ttl: float = setting(
        90.0,
        Seconds(0.01, 36_500),
        "GROUP_TTL",
        unit="days",
        meaning="Time that a group lasts after its last visit, if a client with a session made it and there "
        "is a database (STORE).",
    )
    max_idle_groups: int = setting(
        1_000_000,
        Integer(1, 1_000_000_000),
        "MAX_IDLE_GROUPS",
        meaning="Groups that last while nobody is in them. Beyond it, those end that nobody visited for "
        "longest.",
    )
