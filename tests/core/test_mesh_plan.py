"""The planner of a call's mesh, as tables: who sends how much video to whom."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.core.group.mesh_plan import (
    AUDIO,
    CAMERA_STEPS,
    CAMERA_UPLOAD,
    SCREEN_STEPS,
    SCREEN_UPLOAD,
    Layout,
    plan,
)
from peershare.messages import Participant

NAMES = "abcdefgh"


def camera(user_id):
    return Participant(user_id, audio=True, video=True, screen=False)


def screen(user_id):
    return Participant(user_id, audio=True, video=True, screen=True)


def sent(user_id, participants, layouts):
    """What a participant may send: by the other, a height and kbit/s; None where no video."""
    return {
        one.user_id: (one.max_video_height, one.max_bitrate // 1000) if one.video else None
        for one in plan(participants, layouts)[user_id]
    }


def shows(heights, max_upload=None):
    return Layout(heights, max_upload)


# --- one who sends to one ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "max_upload", "expected"),
    [
        # As large as the picture is shown, and not larger; 1080 at most.
        (0, None, None),
        (1, None, (90, 100)),
        (90, None, (90, 100)),
        (91, None, (180, 200)),
        (360, None, (360, 500)),
        (500, None, (720, 1500)),
        (1080, None, (1080, 2500)),
        (2160, None, (1080, 2500)),
        # Where the line takes less: first 64 kbit/s for audio, and the largest picture that the rest allows.
        (720, 64_000 + 1_499_999, (360, 500)),
        (720, 64_000 + 500_000, (360, 500)),
        (720, 64_000 + 199_999, (90, 100)),
        (720, 64_000 + 99_999, None),
        (720, 64_000, None),
        (720, 0, None),
    ],
)
def test_14_a_camera(shown, max_upload, expected):
    """A camera's picture is sent as large as it is shown, if there is room for it behind the audio."""
    layouts = {"b": shows({"a": shown}), "a": shows({}, max_upload)}
    assert sent("a", [camera("a"), camera("b")], layouts) == {"b": expected}


@pytest.mark.parametrize(
    ("shown", "max_upload", "expected"),
    [
        (0, None, None),
        (90, None, (180, 150)),
        (720, None, (720, 1200)),
        (1080, None, (1080, 2500)),
        # With less, as sharp: what is left out are pictures, not their detail.
        (1080, 64_000 + 1_200_000, (1080, 1200)),
        (1080, 64_000 + 300_000, (1080, 300)),
        (1080, 64_000 + 150_000, (1080, 150)),
        (1080, 64_000 + 149_999, None),
    ],
)
def test_14_a_screen(shown, max_upload, expected):
    """A screen stays as sharp as it is shown, also where it gets less than it could take."""
    layouts = {"b": shows({"a": shown}), "a": shows({}, max_upload)}
    assert sent("a", [screen("a"), camera("b")], layouts) == {"b": expected}


# --- one who sends to several --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_upload", "shown", "expected"),
    [
        # Enough for all.
        (10_000, {"b": 720, "c": 360, "d": 90}, {"b": (720, 1500), "c": (360, 500), "d": (90, 100)}),
        # All get something before anybody gets more, and who shows the picture largest gets it first.
        (192 + 1000, {"b": 720, "c": 360, "d": 90}, {"b": (360, 500), "c": (180, 200), "d": (90, 100)}),
        (192 + 1100, {"b": 720, "c": 360, "d": 90}, {"b": (360, 500), "c": (360, 500), "d": (90, 100)}),
        (192 + 300, {"b": 720, "c": 360, "d": 90}, {"b": (90, 100), "c": (90, 100), "d": (90, 100)}),
        (192 + 299, {"b": 90, "c": 360, "d": 720}, {"b": None, "c": (90, 100), "d": (90, 100)}),
        (192 + 100, {"b": 90, "c": 360, "d": 720}, {"b": None, "c": None, "d": (90, 100)}),
        # A hidden picture leaves its share to the others, but not its audio's.
        (192 + 500, {"b": 0, "c": 720, "d": 0}, {"b": None, "c": (360, 500), "d": None}),
        (192 + 99, {"b": 0, "c": 720, "d": 0}, {"b": None, "c": None, "d": None}),
    ],
)
def test_14_an_upload_is_shared(max_upload, shown, expected):
    """Audio is reserved for all; then those who have least are raised, as far as each shows the picture."""
    layouts = {other: shows({"a": height}) for other, height in shown.items()}
    layouts["a"] = shows({}, 1000 * max_upload)
    assert sent("a", list(map(camera, "abcd")), layouts) == expected


def test_14_eight_with_a_shared_screen():
    """On 4 Mbit/s, seven get the screen sharp, and all audio has room; cameras are thumbnails."""
    participants = [screen("a"), *map(camera, "bcdefgh")]
    layouts = {
        one: shows({other: 1080 if other == "a" else 120 for other in NAMES if other != one}, 4_000_000)
        for one in NAMES
    }
    assert sent("a", participants, layouts) == {**dict.fromkeys("cdefgh", (1080, 300)), "b": (1080, 1200)}
    to_others = dict.fromkeys("acdefgh", (180, 200))
    assert sent("b", participants, layouts) == to_others
    assert sum(rate for _, rate in to_others.values()) * 1000 + 7 * AUDIO <= 4_000_000


# --- without a word ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [(2, {(720, 1500)}), (3, {(360, 500)}), (6, {(360, 500)}), (8, {(360, 500), (180, 200)})],
)
def test_14_without_a_layout(size, expected):
    """Who has not said how it shows the others is taken to show them in as many rows as columns."""
    participants = list(map(camera, NAMES[:size]))
    assert set(sent("a", participants, {}).values()) == expected


def test_14_one_who_has_just_come():
    """Whom a layout does not name yet is sent as without one, until the next."""
    participants = list(map(camera, "abc"))
    layouts = {"a": shows({"b": 0}), "b": shows({}), "c": shows({})}
    assert sent("b", participants, layouts)["a"] is None
    assert sent("c", participants, layouts)["a"] == (360, 500)


def test_14_one_alone():
    """There is nobody to send to; of nobody there is no plan."""
    assert plan([camera("a")], {}) == {"a": ()}
    assert plan([], {}) == {}


# --- what always holds ---------------------------------------------------------------------------

heights = st.sampled_from([0, 1, 90, 120, 180, 360, 719, 1080, 4320])
uploads = st.none() | st.integers(0, 20_000_000)


@st.composite
def calls(draw):
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 8))]
    participants = [Participant(name, *(draw(st.booleans()) for _ in range(3))) for name in names]
    said = st.dictionaries(st.sampled_from(names), heights)
    layouts = {name: shows(draw(said), draw(uploads)) for name in names if draw(st.booleans())}
    return participants, layouts


@given(calls())
def test_14_each_pair_has_one_who_offers_and_one_who_is_polite(call):
    """Whoever joined later offers, and the smaller user ID is polite, as pages without a plan decide it."""
    participants, layouts = call
    plans = {me: {peer.user_id: peer for peer in peers} for me, peers in plan(participants, layouts).items()}
    order = [one.user_id for one in participants]
    for earlier, later in combinations(order, 2):
        one, other = plans[earlier][later], plans[later][earlier]
        assert (one.offerer, other.offerer) == (False, True)
        assert (one.polite, other.polite) == (earlier < later, later < earlier)
    assert all(list(plans[me]) == [other for other in order if other != me] for me in order)


@given(calls())
def test_14_nobody_sends_more_than_its_line_takes(call):
    """Video and the audio for all are within the upload; where there is no room for video, there is none."""
    participants, layouts = call
    plans = plan(participants, layouts)
    for me in participants:
        told = layouts[me.user_id].max_upload if me.user_id in layouts else None
        upload = (SCREEN_UPLOAD if me.screen else CAMERA_UPLOAD) if told is None else told
        peers = plans[me.user_id]
        video = sum(peer.max_bitrate for peer in peers)
        assert video == 0 or video + AUDIO * len(peers) <= upload
        steps = SCREEN_STEPS if me.screen else CAMERA_STEPS
        for peer in peers:
            assert peer.video == (peer.max_bitrate > 0) == (peer.max_video_height > 0)
            assert peer.max_bitrate in (0, *(step.bitrate for step in steps))
            shown = layouts[peer.user_id].heights.get(me.user_id) if peer.user_id in layouts else None
            if shown == 0:
                assert not peer.video


@given(calls(), st.integers(0, 20_000_000), st.integers(0, 20_000_000))
def test_14_more_upload_is_never_less_video(call, one, other):
    """All together; and nobody is without video who had some with less."""
    participants, layouts = call
    me = participants[0].user_id

    def with_upload(upload):
        said = layouts[me].heights if me in layouts else {}
        return plan(participants, {**layouts, me: shows(said, upload)})[me]

    less, more = with_upload(min(one, other)), with_upload(max(one, other))
    assert sum(peer.max_bitrate for peer in less) <= sum(peer.max_bitrate for peer in more)
    assert all(after.video or not before.video for before, after in zip(less, more, strict=True))
