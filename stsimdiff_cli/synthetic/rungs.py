"""What each rung changes: the way of the camera, the sensor, the background, what stands around or in front."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .plots import quiet
from .script import Event, Scene, Script
from .world import COLOURS, SHAPES, SIDE, Body, make_body, pick, put

RUNGS = ("still", "pan", "shake", "noise", "background", "crowd", "occluders", "slow", "long", "several")
PANS = {"train": ((8.0, 13.0), (18.0, 24.0)), "heldout": ((14.0, 17.0),)}  # pixels from the first frame to the last
ZOOMS = {"train": ((1.0, 1.07), (1.15, 1.24)), "heldout": ((1.08, 1.14),)}  # ratio of the last frame to the first
SWAYS = {"train": ((1.5, 3.0), (4.2, 6.0)), "heldout": ((3.2, 4.0),)}  # pixels, largest offset of a shaking camera
DRIFTS = {"train": ((0.6, 1.4), (2.2, 3.2)), "heldout": ((1.5, 2.1),)}  # pixels a frame of a moving background
SIGMAS = {"train": ((5.0, 8.0), (11.0, 15.0)), "heldout": ((8.5, 10.5),)}  # grey levels of sensor noise
STEPS = {"train": ((14.0, 22.0), (30.0, 40.0)), "heldout": ((23.0, 29.0),)}  # quantiser of the codec
MINUTES = (5.0, 30.0)  # of long clips
CROWD = 12  # small things that stand around in rung `crowd`


@dataclass(frozen=True)
class View:
    """How a script is looked at; arrays have a row for every frame.

    camera (T, 3): offset in x and y in pixels and zoom; drift (T, 2): how far the background has moved, in pixels;
    gain (T,): brightness; sigma: sensor noise in grey levels; step: quantiser of the codec, 0 without one;
    Bodies that stand around, covers in each frame, and the length of the clip in seconds (0: 8 frames a second).
    """

    camera: np.ndarray
    drift: np.ndarray
    gain: np.ndarray
    sigma: float = 0.0
    step: float = 0.0
    behind: tuple[Scene, Scene] = ((), ())
    front: tuple[Scene, ...] = ()
    seconds: float = 0.0

    def look(self, body: Body, frame: int) -> Body:
        """The body where the camera sees it."""
        dx, dy, zoom = (float(v) for v in self.camera[frame])
        half = SIDE / 2
        return replace(
            body, x=(body.x - half) * zoom + half + dx, y=(body.y - half) * zoom + half + dy, r=body.r * zoom
        )

    def reversed(self) -> View:
        """The view of the same clip played backwards."""
        turned = {name: getattr(self, name)[::-1] for name in ("camera", "drift", "gain", "behind", "front")}
        return replace(self, **turned)


def plain_view(frames: int) -> View:
    """The view of rung `still`: nothing moves but the bodies."""
    camera = np.tile(np.array([0.0, 0.0, 1.0]), (frames, 1))
    return View(camera, np.zeros((frames, 2)), np.ones(frames), front=((),) * frames)


def make_view(rng: np.random.Generator, rung: str, split: str, script: Script) -> View:
    """The view of a rung."""
    frames = script.frames
    view = plain_view(frames)
    ramp = np.linspace(-0.5, 0.5, frames) if frames > 1 else np.array([rng.uniform(-0.5, 0.5)])
    if rung == "pan":
        angle = rng.uniform(0, 2 * np.pi)
        way = pick(rng, PANS[split]) * np.array([np.cos(angle), np.sin(angle)])
        zoom = np.log(pick(rng, ZOOMS[split])) * (1 if rng.random() < 0.5 else -1)
        return replace(view, camera=np.column_stack([ramp[:, None] * way, np.exp(ramp * zoom)]))
    if rung == "shake":
        return replace(view, camera=np.column_stack([_sway(rng, frames, pick(rng, SWAYS[split])), np.ones(frames)]))
    if rung == "noise":
        wave = np.sin(2 * np.pi * (rng.uniform(0.5, 2.5) * ramp + rng.random()))
        gain = 1 + rng.uniform(0.05, 0.14) * wave
        return replace(view, gain=gain, sigma=pick(rng, SIGMAS[split]), step=pick(rng, STEPS[split]))
    if rung == "background":
        angle, speed = rng.uniform(0, 2 * np.pi), pick(rng, DRIFTS[split])
        return replace(view, drift=np.arange(frames)[:, None] * speed * np.array([np.cos(angle), np.sin(angle)]))
    if rung == "crowd":
        first = _crowd(rng, split, script)
        return replace(view, behind=(first, _crowd(rng, split, script) if script.cut < frames else first))
    if rung == "occluders":
        return replace(view, front=_covers(rng, script))
    if rung == "long":
        return replace(view, seconds=60 * float(np.exp(rng.uniform(*np.log(MINUTES)))))
    return view


def _sway(rng: np.random.Generator, frames: int, largest: float) -> np.ndarray:
    """(T, 2) a hand-held camera's offsets: slow and quick waves, the largest offset as given."""
    time = np.arange(frames)[:, None, None]
    rate = rng.uniform((0.01, 0.05, 0.15), (0.05, 0.15, 0.3), (2, 3))  # cycles a frame
    waves = np.sin(2 * np.pi * (rate * time + rng.random((2, 3)))) * np.array([1.0, 0.7, 0.4]) * rng.uniform(0.5, 1, 3)
    offset = waves.sum(2)
    return offset * largest / max(float(np.abs(offset).max()), 1e-6)


def _crowd(rng: np.random.Generator, split: str, script: Script) -> Scene:
    """Small bodies whose colours and shapes nobody asks for, at free places."""
    known = script.bodies()
    colours = [c for c in COLOURS if c not in {b.colour for b in known}]
    shapes = [s for s in SHAPES if s not in {b.shape for b in known}]
    ways = [b for e in script.events if e.kind == "move" for b in _way(e)]
    placed: list[Body] = []
    scale = 0.62
    while len(placed) < CROWD:
        body = make_body(rng, str(rng.choice(colours)), str(rng.choice(shapes)), split, scale)
        spot = put(rng, body, [*known, *ways, *placed], margin=-2.0)
        scale *= 0.97 if spot is None else 1.0  # rather smaller things than fewer
        placed += [spot] if spot is not None else []
    return tuple(placed)


def _way(event: Event) -> list[Body]:
    """The places that a moving body passes."""
    a, b = event.body, event.to
    if a is None or b is None:
        return []
    return [a.at(a.x + s * (b.x - a.x), a.y + s * (b.y - a.y)) for s in np.linspace(0, 1, 8)]


def _covers(rng: np.random.Generator, script: Script) -> tuple[Scene, ...]:
    """A bar that crosses the picture while nothing happens, and the cover under which a body is carried."""
    frames = script.frames
    half, backwards = rng.uniform(6, 10), rng.random() < 0.5
    bar = Body("grey", "bar", 0.0, SIDE / 2, float(half), surface="grain", phase=float(rng.uniform(0, 6)))
    if frames < 12:
        return tuple((bar.at(rng.uniform(0, SIDE), SIDE / 2),) for _ in range(frames))
    start, end = quiet(tuple(e for e in script.events if e.kind != "carry"), frames)
    path = np.linspace(-half, SIDE + half, max(2, end - start))
    path = path[::-1] if backwards else path
    covers: list[Scene] = []
    for frame in range(frames):
        front: Scene = (bar.at(path[frame - start], SIDE / 2),) if start <= frame < start + len(path) else ()
        covers.append((*front, *(box for e in script.events if e.kind == "carry" for box in _box(e, frame, start))))
    return tuple(covers)


def _box(event: Event, frame: int, start: int) -> Scene:
    """The cover of a carried body: it comes down from above, takes the body along and stays."""
    if event.body is None or frame < start:
        return ()
    r = 1.25 * event.body.r
    carried = event.apply((event.body,), frame)[0]
    if frame >= event.first:
        return (Body("grey", "box", carried.x, carried.y, r, surface="stripes", phase=0.8),)
    down = (frame - start + 1) / (event.first - start)
    return (Body("grey", "box", carried.x, -r + min(1.0, down) * (carried.y + r), r, surface="stripes", phase=0.8),)
