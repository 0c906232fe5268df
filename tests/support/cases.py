"""Random small videos, and what the reference selects from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from stsimdiff_cli.graph import edges as graph
from stsimdiff_cli.methods.st_simdiff import StSimDiff, StSimDiffPlus
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import Selection, VideoTokens
from tests.support.fake_llm import FakeLlm
from tests.support.references import st_simdiff as reference
from tests.support.references.st_simdiff import Expected, UndecidedError, video
from tests.support.references.st_simdiff_plus import st_simdiff_plus

PYTHAGOREAN = [(1, 0), (0, 1), (4, 3), (3, 4), (24, 7), (7, 24), (-3, 4), (8, 6)]  # cosines such as 0.6, 0.8, 0.96


def make_features(content: str, shape: tuple[int, int, int], width: int, seed: int) -> torch.Tensor:
    """Small videos (T, H, W, D) with many kinds of content."""
    chance = torch.Generator().manual_seed(seed)
    slots, rows, columns = shape
    full = (slots, rows, columns, width)
    if content == "scenes":  # cells show one of three things, which changes now and then
        things = torch.randn(3, width, generator=chance)
        cut = torch.rand(slots, rows, columns, generator=chance) < 0.3
        shown = (cut.cumsum(0) + torch.randint(2, (rows, columns), generator=chance)) % 3
        return things[shown] + (0.05, 0.2, 0.4)[seed % 3] * torch.randn(full, generator=chance)
    if content == "noise":
        return torch.randn(full, generator=chance)
    if content == "drift":  # everything hangs together in one component
        return 10 + 2 * torch.randn(full, generator=chance).cumsum(0)
    if content == "integers":  # many equal cosines, and zero vectors
        return torch.randint(-1, 3, full, generator=chance).float()
    if content == "triples":  # cosines that equal the thresholds
        return torch.tensor(PYTHAGOREAN)[torch.randint(len(PYTHAGOREAN), full[:3], generator=chance)].float()
    if content == "constant":
        return torch.randn(width, generator=chance).expand(full).clone()
    if content == "different":  # every cosine is 0
        return torch.eye(slots * rows * columns).view(slots, rows, columns, -1)
    return torch.zeros(full)


DTYPES = [torch.float32, torch.float32, torch.bfloat16]
CONTENTS = ["scenes", "noise", "drift", "integers", "triples", "constant", "different", "zeros"]


@dataclass
class Case:
    """A video, a ratio and the switches of the graph."""

    features: torch.Tensor
    ratio: str
    switches: dict[str, Any]
    seed: int

    def expected(self, **more: Any) -> Expected:
        """What the reference selects; a case that depends on rounding does not count."""
        try:
            return reference.st_simdiff(self.features, self.ratio, **self.switches, **more)
        except UndecidedError:
            reject()

    def selection(self, importance: str, tokens: VideoTokens | None = None, attention: Any = None) -> Selection:
        """What the library selects."""
        method = StSimDiff(importance=importance, **self.switches)
        llm = FakeLlm(attention)
        return method.select(tokens or video(self.features), parse_ratio(self.ratio), llm, lambda name: None)

    def tie_prone_weights(self) -> torch.Tensor:
        """An importance for every token, with many ties."""
        chance = torch.Generator().manual_seed(self.seed)
        return torch.randint(6, (math.prod(self.features.shape[:3]),), generator=chance).float() / 7


@dataclass
class PlusCase(Case):
    """The same of `st-simdiff+`."""

    def expected(self) -> Expected:
        """What its reference selects; a case that depends on rounding does not count."""
        try:
            return st_simdiff_plus(self.features, self.ratio, **self.switches)
        except UndecidedError:
            reject()

    def selection(self, tokens: VideoTokens | None = None) -> Selection:
        """What the library selects, without an LLM."""
        method = StSimDiffPlus(**self.switches)
        return method.select(tokens or video(self.features), parse_ratio(self.ratio), FakeLlm(None), lambda name: None)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Random small videos with random parameters."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)))
    seed = draw(st.integers(0, 2**20))
    features = make_features(draw(st.sampled_from(CONTENTS)), shape, draw(st.integers(1, 6)), seed)
    switches = {
        "tau_sim": draw(st.sampled_from([0.8, 0.8, 0.6, 0.95, 0.0, -0.5, -1.0, 1.0])),
        "tau_diff": draw(st.sampled_from([0.2, 0.2, 0.6, 0.8, 0.0, 1.0, -1.0, "p95", "p50", "p0", "p100", "p12.5"])),
        "spatial": draw(st.booleans()),
        "temporal": draw(st.booleans()),
        "events": draw(st.booleans()),
        "max_community": draw(st.sampled_from(["sqrt", "none"])),
    }
    return Case(features, str(draw(st.integers(1, 100)) / 100), switches, seed)


@st.composite
def plus_cases(draw: st.DrawFn) -> PlusCase:
    """Random small videos with random parameters of `st-simdiff+`, many of them the defaults; longer ones for `far`."""
    case = draw(cases())
    switches = {
        "split": draw(st.sampled_from(["space", "space", "time"])),
        "ends": draw(st.sampled_from(["both", "both", "later"])),
        "far": draw(st.sampled_from([8, 8, 4, 3, 2, 1, 0, 100])),
        "event_share": draw(st.sampled_from([0.4, 0.4, 0.29, 0.0, 1.0])),
        "varied": draw(st.sampled_from([True, True, False])),
    }
    shape = draw(
        st.sampled_from([(26, 2, 2), (17, 3, 3), (12, 2, 3), (9, 1, 1), (8, 3, 3), (2, 1, 3), (1, 3, 4), (1, 1, 1)])
    )
    content = draw(st.sampled_from([*CONTENTS, "scenes", "scenes", "noise"]))
    features = make_features(content, shape, case.features.shape[-1], case.seed).to(draw(st.sampled_from(DTYPES)))
    ratio = draw(st.sampled_from(["0.3", "0.1", "0.5", "0.75", "0.07", case.ratio]))
    return PlusCase(features, ratio, draw(st.sampled_from([{}, switches, case.switches | switches])), case.seed)


def hundreds(test: Any) -> Any:
    """Three hundred cases, the same ones on every run."""
    return settings(max_examples=300, deadline=None, derandomize=True)(given(case=cases())(test))


def edge_list(edges: graph.Edges) -> dict[tuple[int, int], float]:
    """The weights of the library's edges by their ends."""
    slots, rows, columns = edges.shape
    node = torch.arange(slots * rows * columns).view(slots, rows, columns)
    weight_of = {}
    for weight, start, end in (
        (edges.right, node[:, :, :-1], node[:, :, 1:]),
        (edges.down, node[:, :-1], node[:, 1:]),
        (edges.later, node[:-1], node[1:]),
    ):
        ends = zip(start.flatten().tolist(), end.flatten().tolist(), strict=True)
        weight_of |= dict(zip(ends, weight.flatten().tolist(), strict=True))
    return weight_of


def labels_of(parts: list[list[int]], count: int) -> list[int]:
    """The community number of every token."""
    number = {token: k for k, part in enumerate(parts) for token in part}
    return [number[token] for token in range(count)]


def assert_same_selection(got: Selection, expected: Expected) -> None:
    """Kept tokens, reasons, community numbers and counts."""
    assert got.index.tolist() == expected.kept
    assert got.kind.tolist() == expected.kinds
    assert got.community.tolist() == expected.labels
    assert got.counts == {
        "tokens": sum(map(len, expected.communities)),
        "kept": len(expected.kept),
        "candidates": len(expected.candidates),
        "representatives": len(expected.representatives),
        "events": len(expected.events),
        "communities": len(expected.communities),
        "largest_community": max(map(len, expected.communities)),
    }
