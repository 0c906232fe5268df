"""Every rung is rung `still` with one thing changed."""

from __future__ import annotations

import numpy as np
import pytest

from stsimdiff_cli.synthetic.clips import make_clip, twin_of
from stsimdiff_cli.synthetic.plots import write_script
from stsimdiff_cli.synthetic.rungs import RUNGS

VIEWED = ("pan", "shake", "noise", "background", "crowd")  # rungs that change how a script is looked at
SEEDS = range(6)


@pytest.mark.parametrize("rung", VIEWED)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_rung_that_changes_the_view_keeps_script_and_facts(rung: str, seed: int) -> None:
    clip = make_clip(seed, rung, "heldout", 24)
    twin = twin_of(clip, seed, "heldout")
    assert clip.script == twin.script
    assert clip.facts == twin.facts
    assert clip.fps == twin.fps
    assert not np.array_equal(clip.frames, twin.frames)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("rung", [r for r in RUNGS if r not in ("still", *VIEWED)])
def test_the_other_rungs_keep_scene_and_event(rung: str, seed: int) -> None:
    script, kind = write_script(seed, rung, "train", 32, None)
    twin, _ = write_script(seed, "still", "train", 32, kind)
    (event,) = twin.events
    assert script.scenes[0] == twin.scenes[0]
    assert script.group == twin.group
    same = [
        e
        for e in script.events
        if e.kind == event.kind and (e.body, e.to, e.scene) == (event.body, event.to, event.scene)
    ]
    assert any(e.when(32) == event.when(32) for e in same)
    if rung != "slow":
        assert event in script.events
    if rung == "long":
        assert kind == "flash"


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["flash", "vanish", "appear", "recolour", "move"])
def test_slow_changes_take_a_fifth_of_the_clip_or_more_and_end_alike(kind: str, seed: int) -> None:
    script, _ = write_script(seed, "slow", "train", 40, kind)
    twin, _ = write_script(seed, "still", "train", 40, kind)
    (event,) = script.events
    assert event.last - event.first + 1 >= 8
    assert event.first >= 1 and event.last < 39
    assert script.scenes[-1] == twin.scenes[-1]


def test_a_scene_change_stays_abrupt_on_rung_slow() -> None:
    script, _ = write_script(3, "slow", "train", 32, "cut")
    assert script == write_script(3, "still", "train", 32, "cut")[0]


def test_a_pan_has_constant_velocity_and_zoom() -> None:
    camera = make_clip(1, "pan", frames=16).view.camera
    steps = np.diff(camera[:, :2], axis=0)
    assert np.allclose(steps, steps[0]) and np.abs(steps[0]).max() > 0.2
    ratios = camera[1:, 2] / camera[:-1, 2]
    assert np.allclose(ratios, ratios[0])


def test_a_crowd_has_ten_or_more_things_that_nobody_asks_for() -> None:
    clip = make_clip(2, "crowd", frames=12, kind="move")
    crowd = clip.view.behind[0]
    asked = clip.script.bodies()
    assert len(crowd) >= 10
    assert not {b.colour for b in crowd} & {b.colour for b in asked}
    assert not {b.shape for b in crowd} & {b.shape for b in asked}


@pytest.mark.parametrize("seed", range(20))
def test_a_cover_passes_while_nothing_happens(seed: int) -> None:
    clip = make_clip(seed, "occluders", frames=24)
    event = next(e for e in clip.script.events if e.kind != "carry")
    covered = [i for i, front in enumerate(clip.view.front) if any(b.shape == "bar" for b in front)]
    assert covered
    assert not set(covered) & set(range(event.first - 1, event.last + 2))


def test_most_clips_with_covers_carry_something_to_the_end() -> None:
    carried = 0
    for seed in range(60):
        script, _ = write_script(seed, "occluders", "train", 32, None)
        for event in script.events:
            if event.kind == "carry":
                carried += 1
                assert event.body in script.scenes[0] and event.to in script.scenes[-1]
    assert carried > 25


@pytest.mark.parametrize("seed", range(30))
def test_needles_are_short_deep_and_known(seed: int) -> None:
    clip = make_clip(seed, "long", frames=32)
    events = clip.script.events
    assert 1 <= len(events) <= 3
    assert all(e.kind == "flash" and e.last - e.first <= 1 for e in events)
    assert 300 <= clip.view.seconds <= 1800
    assert clip.fps == pytest.approx(32 / clip.view.seconds)
    assert clip.depths == tuple((e.first + e.last + 1) / 2 / 32 for e in events)
    asked = {f.depth for f in clip.facts if f.kind in ("flash", "order")}
    assert asked == set(clip.depths)
