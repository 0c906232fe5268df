"""The passes over the features: every form gives the reference's selection, in chunks and on any number of threads."""

from __future__ import annotations

import math
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from stsimdiff_cli.errors import StsimdiffError
from stsimdiff_cli.graph import edges as graph
from stsimdiff_cli.graph import kernels
from stsimdiff_cli.graph.centrality import centrality
from stsimdiff_cli.graph.communities import communities
from stsimdiff_cli.graph.kernels import inverse_of
from stsimdiff_cli.methods.st_simdiff import StSimDiff
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.token_features import DenseFeatures
from tests.support.cases import CONTENTS, Case, assert_same_selection, cases, make_features
from tests.support.references.st_simdiff import ROUNDING_64, video

REQUIRES = {"plain": "torch", "compiled": "numba", "fused": "triton"}
DTYPES = {
    "plain": [torch.float32, torch.bfloat16, torch.float16],
    "compiled": [torch.float32, torch.bfloat16],
    "fused": [torch.float32, torch.bfloat16, torch.float16],
}


@pytest.fixture(scope="module", params=["plain", "compiled", pytest.param("fused", marks=pytest.mark.gpu)])
def form(request: pytest.FixtureRequest) -> ModuleType:
    """Each form in turn. On a GPU the Triton kernels run there, else in Triton's interpreter (`conftest.py`)."""
    pytest.importorskip(REQUIRES[request.param])
    return import_module(f"stsimdiff_cli.graph.kernels.{request.param}")


@pytest.fixture
def chosen(form: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The library takes this form whatever the features; groups are small enough to be cut in small tests too."""
    monkeypatch.setattr(kernels, "choose", lambda features, elements: form)
    for name, value in {"RUN": 4, "GROUPS": 3, "PIECE": 5, "LARGE": 7, "ROWS": {"cpu": 7, "cuda": 7}}.items():
        if hasattr(form, name):
            monkeypatch.setattr(form, name, value)
    return form


def name_of(form: ModuleType) -> str:
    return form.__name__.rsplit(".", 1)[1]


def place(tensor: torch.Tensor, form: ModuleType) -> torch.Tensor:
    """Where the form works."""
    return tensor.cuda() if name_of(form) == "fused" and torch.cuda.is_available() else tensor


def random_groups(count: int, groups: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Some of `count` rows in groups: order (M,) and start (G+1,)."""
    chance = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=chance)[: count - count // 4]
    size = torch.bincount(torch.randint(groups, (len(order),), generator=chance))
    size = size[size > 0]
    return order, torch.cat([size.new_zeros(1), size.cumsum(0)])


# --- Against loops ----------------------------------------------------------------------------------------------------


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=cases())
def test_every_form_selects_what_the_reference_selects(chosen: ModuleType, case: Case) -> None:
    expected = case.expected()
    case.features = place(case.features, chosen)
    assert_same_selection(case.selection("centrality"), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 1, 1, 5), (1, 4, 3, 8), (3, 2, 4, 70), (2, 2, 2, 1030)])
def test_products_are_those_with_the_neighbours(form: ModuleType, shape: tuple[int, ...]) -> None:
    slots = shape[0]
    for dtype in DTYPES[name_of(form)]:
        video = place(torch.randn(slots + 1, *shape[1:], generator=torch.Generator().manual_seed(1)).to(dtype), form)
        wide = video.double()
        for begin in (0, 1):  # without and with a slot before the chunk
            got = form.products(video[begin:], video[0] if begin else None)
            x = wide[begin:]
            tolerance = {"rtol": 0, "atol": 1e-12 * shape[3]}
            torch.testing.assert_close(got[..., 0], x.square().sum(-1), **tolerance)
            torch.testing.assert_close(got[:, :, :-1, 1], (x[:, :, 1:] * x[:, :, :-1]).sum(-1), **tolerance)
            torch.testing.assert_close(got[:, :-1, :, 2], (x[:, 1:] * x[:, :-1]).sum(-1), **tolerance)
            torch.testing.assert_close(got[1 - begin :, ..., 3], (wide[1:] * wide[:-1]).sum(-1), **tolerance)


@pytest.mark.parametrize(("count", "width"), [(0, 3), (1, 1), (20, 70), (3, 1030)])
def test_pairs_are_products_row_by_row(chosen: ModuleType, count: int, width: int) -> None:
    for dtype in DTYPES[name_of(chosen)]:
        rows = torch.randn(2, count, width, generator=torch.Generator().manual_seed(3)).to(dtype)
        expected = (rows[0].double() * rows[1].double()).sum(1)
        got = chosen.pairs(place(rows[0], chosen), place(rows[1], chosen)).cpu()
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12 * width)


@pytest.mark.parametrize(("count", "groups"), [(1, 1), (40, 1), (40, 3), (40, 30), (9, 9)])
def test_sums_and_dots_are_those_of_a_loop_over_groups(chosen: ModuleType, count: int, groups: int) -> None:
    order, start = random_groups(count, groups, seed=count + groups)
    for dtype in DTYPES[name_of(chosen)]:
        rows = torch.randn(count, 70, generator=torch.Generator().manual_seed(2)).to(dtype)
        rows[0] = 0
        unit = torch.nn.functional.normalize(rows.double(), dim=1)
        inverse = inverse_of(rows.double().norm(dim=1))
        members = [order[a:b] for a, b in zip(start.tolist(), start.tolist()[1:], strict=False)]
        sums = torch.stack([unit[member].sum(0) for member in members])
        dots = torch.cat([unit[member] @ total for member, total in zip(members, sums, strict=True)])
        given_rows = [place(tensor, chosen) for tensor in (rows, inverse, order, start)]
        torch.testing.assert_close(chosen.sums(*given_rows).cpu(), sums, rtol=0, atol=1e-13)
        torch.testing.assert_close(chosen.dots(*given_rows, place(sums, chosen)).cpu(), dots, rtol=0, atol=1e-13)
        torch.testing.assert_close(chosen.affinities(*given_rows).cpu(), dots, rtol=0, atol=1e-13)


def test_equal_tokens_of_a_community_tie_wherever_they_stand(chosen: ModuleType) -> None:
    # Their scores lie between two multiples of the resolution, where rounding of 1e-7 would part them.
    for seed in range(8):
        features = make_features("drift", (25, 1, 1), 40, seed)
        features[[3, 11, 24]] = features[7].clone()
        features = DenseFeatures(place(features, chosen))
        norm = graph.edge_weights(features).norm
        score = centrality(features, torch.zeros(25, dtype=torch.int64, device=features.device), norm)
        assert (score[[3, 11, 24]] - score[7]).abs().max() < ROUNDING_64


# --- In chunks --------------------------------------------------------------------------------------------------------


class Slices(DenseFeatures):
    """Features that remember which of their slots were asked for."""

    asked: list[tuple[int, int]] = []  # noqa: RUF012

    def chunks(self, rows=None, wanted=None):
        for begin, chunk in super().chunks(rows, wanted):
            self.asked = [*self.asked, (begin, begin + len(chunk))]
            yield begin, chunk


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("slots", [1, 2, 9])
def test_chunks_give_the_numbers_of_the_whole(chosen: ModuleType, content: str, slots: int) -> None:
    features = DenseFeatures(place(make_features(content, (5, 3, 2), 7, 4), chosen))
    whole = graph.edge_weights(features, far=2)
    parts = graph.edge_weights(features, slots, far=2)
    assert len(whole.far) == 3
    for name in ("right", "down", "later", "norm", "far"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))
    for label in (
        communities(*graph.strong_edges(whole, 0.8), 30),
        torch.zeros(30, dtype=torch.int64),
        torch.arange(30) % 4,
        torch.arange(30),
    ):
        label = place(label, chosen)
        expected = centrality(features, label, whole.norm)
        got = centrality(features, label, whole.norm, slots)
        torch.testing.assert_close(got, expected, rtol=0, atol=ROUNDING_64)


def test_features_are_read_once_for_edges_and_again_only_for_communities_that_span_chunks() -> None:
    features = Slices(make_features("noise", (5, 3, 2), 7, 0))
    norm = graph.edge_weights(features, 2).norm
    assert features.asked == [(0, 2), (2, 4), (4, 5)]
    for label, passes in ((torch.arange(30) // 12, 1), (torch.arange(30) // 13, 2)):
        features.asked = []
        centrality(features, label, norm, 2)
        assert features.asked == [(0, 2), (2, 4), (4, 5)] * passes


@pytest.mark.parametrize("slots", [None, 1, 2])
def test_a_token_that_is_not_finite_is_named_by_its_place_in_the_video(chosen: ModuleType, slots: int | None) -> None:
    features = place(torch.ones(5, 2, 3, 4), chosen)
    features[3, 1, 2, 0] = math.inf
    with pytest.raises(StsimdiffError, match="slot 3, row 1, column 2 holds"):
        graph.edge_weights(DenseFeatures(features), slots)


# --- Threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["scenes", "noise", "drift"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_numbers_are_the_same_bytes_on_any_number_of_threads(content: str, dtype: torch.dtype) -> None:
    pytest.importorskip("numba")
    compiled: Any = import_module("stsimdiff_cli.graph.kernels.compiled")
    features = make_features(content, (60, 8, 9), 200, 0).to(dtype)
    rows, count = features.flatten(0, 2), 60 * 8 * 9
    inverse = inverse_of(rows.double().norm(dim=1))
    order = torch.arange(count)
    groups = [[0, count], [0, 3, 700, 900, count - 1, count], list(range(0, count + 1, 2))]  # large, mixed, pairs
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            numbers = [compiled.products(features, None).flatten()]
            numbers += [compiled.affinities(rows, inverse, order, torch.tensor(start)) for start in groups]
            results.append(torch.cat(numbers))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


# --- Choosing ---------------------------------------------------------------------------------------------------------


def chosen_for(features: torch.Tensor, elements: int) -> str:
    return name_of(kernels.choose(features, elements))


def absent(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if what the form needs were not installed."""
    monkeypatch.setitem(sys.modules, f"stsimdiff_cli.graph.kernels.{form}", None)
    monkeypatch.delattr(kernels, form, raising=False)


def test_small_features_and_types_that_are_not_compiled_take_the_plain_form() -> None:
    assert chosen_for(torch.ones(1), kernels.WORTH_LOADING - 1) == "plain"
    assert chosen_for(torch.ones(1, dtype=torch.float16), kernels.WORTH_LOADING) == "plain"
    assert chosen_for(torch.ones(1, dtype=torch.float64), kernels.WORTH_LOADING) == "plain"


def test_large_features_take_the_compiled_form_where_numba_is() -> None:
    pytest.importorskip("numba")
    assert chosen_for(torch.ones(1), kernels.WORTH_LOADING) == "compiled"
    assert chosen_for(torch.ones(1, dtype=torch.bfloat16), kernels.WORTH_LOADING) == "compiled"


def test_without_numba_large_features_take_the_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    absent("compiled", monkeypatch)
    assert chosen_for(torch.ones(1), kernels.WORTH_LOADING) == "plain"


def test_without_triton_features_on_a_gpu_take_the_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        is_cuda, device, dtype = True, torch.device("cuda"), torch.bfloat16

    absent("fused", monkeypatch)
    assert chosen_for(OnGpu(), kernels.WORTH_LOADING) == "plain"  # type: ignore[arg-type]


def test_the_form_is_chosen_by_the_whole_video_not_by_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    plain: Any = import_module("stsimdiff_cli.graph.kernels.plain")
    monkeypatch.setattr(kernels, "choose", lambda features, elements: asked.append(elements) or plain)
    features = DenseFeatures(make_features("scenes", (5, 3, 2), 7, 0))
    centrality(features, torch.zeros(30, dtype=torch.int64), graph.edge_weights(features, 2).norm, 2)
    assert set(asked) == {5 * 3 * 2 * 7}


def test_a_selection_reads_float16_as_it_reads_its_values_in_float32(chosen: ModuleType) -> None:
    if torch.float16 not in DTYPES[name_of(chosen)]:
        pytest.skip("this form is not chosen for float16")
    features = make_features("scenes", (4, 3, 3), 6, 2).half()
    picked = [
        StSimDiff(importance="centrality").select(video(place(x, chosen)), parse_ratio("0.3"), None, lambda step: None)
        for x in (features, features.float())
    ]
    assert torch.equal(picked[0].index, picked[1].index)
