"""The planner of a call's mesh: shares each participant's upload among those who see it.

House rules: as in `core.hub`; values in, values out. All rates are in bit/s.

Audio is reserved first, for everybody. The rest goes to video step by step, always to those who have
least, as far as each shows a picture so large. So a thumbnail takes little, a hidden picture nothing, and
where there is too little for all, those who show the picture largest come first.
"""

import math
from collections.abc import Mapping, Sequence

import attrs

from peershare.messages import Participant, PeerPlan, UserId

# Opus at 32 kbit/s, as browsers send it, with 50 headers a second of RTP, SRTP, UDP and IP.
AUDIO = 64_000
# What a line is taken to carry, as long as its client says nothing else.
CAMERA_UPLOAD = 3_000_000
SCREEN_UPLOAD = 6_000_000
# Pixels that pictures have together, one above the other, with a client that does not say how it shows them.
_UNTOLD_HEIGHT = 720


@attrs.frozen
class Step:
    height: int
    bitrate: int


CAMERA_STEPS = (
    Step(90, 100_000),
    Step(180, 200_000),
    Step(360, 500_000),
    Step(720, 1_500_000),
    Step(1080, 2_500_000),
)
SCREEN_STEPS = (Step(180, 150_000), Step(360, 300_000), Step(720, 1_200_000), Step(1080, 2_500_000))


@attrs.frozen
class Layout:
    """The pictures that a participant shows, by their heights, and what its line takes, if it is little."""

    heights: Mapping[UserId, int]
    max_upload: int | None = None


_UNSAID = Layout({})

Plan = tuple[PeerPlan, ...]


def plan(participants: Sequence[Participant], layouts: Mapping[UserId, Layout]) -> dict[UserId, Plan]:
    """Return the plan of each participant. They are in the order in which they joined."""
    others = len(participants) - 1
    untold_height = _UNTOLD_HEIGHT // math.ceil(math.sqrt(max(others, 1)))
    plans: dict[UserId, Plan] = {}
    for at, me in enumerate(participants):
        steps = SCREEN_STEPS if me.screen else CAMERA_STEPS
        heights = {
            one.user_id: layouts.get(one.user_id, _UNSAID).heights.get(me.user_id, untold_height)
            for one in participants
            if one is not me
        }
        wanted = {other: _step_for(height, steps) for other, height in heights.items()}
        upload = layouts.get(me.user_id, _UNSAID).max_upload
        if upload is None:
            upload = SCREEN_UPLOAD if me.screen else CAMERA_UPLOAD
        largest_first = sorted(wanted, key=heights.__getitem__, reverse=True)
        granted = _share(upload - AUDIO * others, largest_first, wanted, steps)
        # Of a screen detail matters more than motion: a lower rate means fewer pictures, not smaller ones.
        drawn = wanted if me.screen else granted
        plans[me.user_id] = tuple(
            PeerPlan(
                other,
                offerer=number < at,  # who joins makes offers to those who are there
                polite=me.user_id < other,
                max_video_height=steps[drawn[other]].height if step >= 0 else 0,
                max_bitrate=steps[step].bitrate if step >= 0 else 0,
                video=step >= 0,
            )
            for number, (other, step) in enumerate(granted.items())
        )
    return plans


def _step_for(height: int, steps: Sequence[Step]) -> int:
    """Return the number of the lowest step that fills a picture; -1 for one that is not shown."""
    if not height:
        return -1
    return next((number for number, step in enumerate(steps) if step.height >= height), len(steps) - 1)


def _share(
    budget: int, order: Sequence[UserId], wanted: Mapping[UserId, int], steps: Sequence[Step]
) -> dict[UserId, int]:
    """Raise all to the first step, then to the second, and so on, as far as each wants and there is room."""
    granted = dict.fromkeys(wanted, -1)
    below = 0
    for number, step in enumerate(steps):
        for other in order:
            if wanted[other] >= number == granted[other] + 1 and step.bitrate - below <= budget:
                granted[other] = number
                budget -= step.bitrate - below
        below = step.bitrate
    return granted
