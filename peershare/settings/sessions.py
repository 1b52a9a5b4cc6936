"""Sessions, which outlive a lost connection: docs/sessions.md."""

import attrs

from peershare.settings.section import setting
from peershare.settings.types import Seconds


@attrs.frozen(slots=False)
class Sessions:
    session_grace: float = setting(
        30.0,
        Seconds(0, 3600),
        "SESSION_GRACE",
        unit="s",
        meaning="Time in which a member whose connection was lost can resume its session. 0: none, nor in "
        "the background.",
    )
    session_grace_background: float = setting(
        120.0,
        Seconds(0, 86_400),
        "SESSION_GRACE_BACKGROUND",
        unit="s",
        meaning="The same for one that has said it is in the background, where phones sleep.",
    )
