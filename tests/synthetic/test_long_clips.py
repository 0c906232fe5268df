"""Clips with several events: each is shown, one after the other, and every question has one answer."""

import pytest

from stsimdiff_cli.synthetic.long_clips import render_long_clip
from tests.support.rendered_clips import colour_under, shows


@pytest.mark.parametrize("count", range(2, 7))
def test_a_long_clip_shows_its_events_one_after_the_other(count):
    clip = render_long_clip(count, "heldout", 64, count)
    assert len(clip.events) == count
    assert len(clip.scenes) == len(clip.frames) == 64
    assert all(a.last < b.first for a, b in zip(clip.events, clip.events[1:], strict=False))
    for event in clip.events:
        if event.kind == "flash":
            assert [shows(clip, i, event.shape) for i in (event.first - 1, event.first, event.last + 1)] == [0, 1, 0]
        elif event.kind in ("vanish", "recolour"):
            assert [shows(clip, i, event.shape) for i in (event.first - 1, event.first)] == [1, 0]
            assert colour_under(clip, event.first, event.shape) == event.detail


def test_questions_about_long_clips_have_one_answer():
    for seed in range(12):
        clip = render_long_clip(seed, "train", 64, 2 + seed % 5)
        asked = [(fact.kind, fact.wording, fact.colour, fact.shape) for fact in clip.facts]
        assert len(set(asked)) == len(asked)
        kinds = {fact.kind for fact in clip.facts}
        assert not kinds & {"when", "what"}
        happened = {event.kind for event in clip.events}
        assert not {"cut", "vanish"} <= happened
        assert not ("cut" in happened and "nothing" in kinds)
        assert not {f.wording for f in clip.facts if f.kind == "nothing"} & happened


def test_more_events_than_fit_are_refused():
    with pytest.raises(ValueError, match="6 events do not fit into 24 slots"):
        render_long_clip(0, "train", 24, 6)
    with pytest.raises(ValueError, match="expected one of"):
        render_long_clip(0, "test", 64, 2)
