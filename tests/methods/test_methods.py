"""The contract of a method, kept by every method of the table, and the reading of methods from text."""

from __future__ import annotations

import pkgutil
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
import torch

import stsimdiff_cli.methods
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.methods import INSIDE, METHODS, TOKENS
from stsimdiff_cli.methods.base import Method
from stsimdiff_cli.methods.random import Random
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.methods.st_simdiff import StSimDiff
from stsimdiff_cli.methods.uniform import Uniform
from stsimdiff_cli.methods.vanilla import Vanilla
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import Selection, VideoTokens
from stsimdiff_cli.token_features import DenseFeatures
from tests.support.fake_llm import FakeLlm, not_declared, ties
from tests.support.references.st_simdiff import ceil_of, video

RATIOS = ["0.01", "0.07", "0.3", "0.5", "0.99", "1"]
SHAPES = [(1, 1, 1), (1, 3, 4), (4, 1, 1), (5, 1, 4), (5, 4, 1), (6, 3, 4)]
CONTENTS = ["noise", "scenes", "constant", "zero"]

every_method = pytest.mark.parametrize("name", list(METHODS.builtin))


def make_tokens(content: str, shape: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> VideoTokens:
    """A video with all the evidence that a method may need."""
    chance = torch.Generator().manual_seed(sum(shape))
    full = (*shape, 8)
    if content == "noise":
        features = torch.randn(full, generator=chance)
    elif content == "scenes":  # a change half way
        scene = (torch.arange(shape[0]) * 2 // shape[0])[:, None, None, None]
        features = torch.randn(2, 8, generator=chance)[scene.squeeze(-1)] + 0.3 * torch.randn(full, generator=chance)
    elif content == "constant":
        features = torch.randn(8, generator=chance).expand(full).clone()
    else:
        features = torch.zeros(full)
    saliency = torch.rand(shape, generator=chance)
    keys = torch.randn((*shape, 2, 2), generator=chance)
    return video(features.to(dtype), saliency=saliency, keys=keys)


def choose(method: Method, tokens: VideoTokens, ratio: str) -> Selection:
    return method.select(tokens, parse_ratio(ratio), llm_for(method), lambda step: None)


def llm_for(method: Method) -> FakeLlm:
    return FakeLlm(ties if "llm" in method.needs else not_declared)


def assert_same(first: Selection, second: Selection, scale: float = 1.0) -> None:
    """Equal choices; features of the second are those of the first times `scale`, a power of two."""
    assert torch.equal(first.index, second.index)
    assert torch.equal(first.kind, second.kind)
    assert torch.equal(first.community, second.community)
    assert first.counts == second.counts
    assert (first.features is None) == (second.features is None)
    if first.features is not None and second.features is not None:
        assert torch.equal(first.features * scale, second.features)


# --- The contract -----------------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("content", CONTENTS)
def test_a_method_keeps_exactly_the_budget_in_order(
    name: str, ratio: str, shape: tuple[int, int, int], content: str
) -> None:
    method, tokens = parse_method(name), make_tokens(content, shape)
    got = choose(method, tokens, ratio)
    count = tokens.grid.tokens
    kept = count if method.keeps_all else ceil_of(ratio, count)
    assert got.index.shape == got.kind.shape == got.community.shape == (kept,)
    assert (got.index.dtype, got.kind.dtype, got.community.dtype) == (torch.int64, torch.uint8, torch.int64)
    assert bool((got.index[1:] > got.index[:-1]).all())
    assert 0 <= int(got.index[0]) <= int(got.index[-1]) < count
    assert int(got.kind.max()) <= 3
    assert int(got.community.min()) >= -1
    assert (got.counts["tokens"], got.counts["kept"]) == (count, kept)
    assert kept <= got.counts["candidates"] <= count
    if got.importance is not None:
        assert (got.importance.shape, got.importance.dtype) == ((kept,), torch.float32)
    if got.features is not None:
        assert got.features.shape == (kept, tokens.grid.width)


@every_method
def test_a_method_keeps_everything_at_ratio_1(name: str) -> None:
    tokens = make_tokens("scenes", (6, 3, 4))
    assert choose(parse_method(name), tokens, "1").index.tolist() == list(range(72))


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_method_keeps_the_type_of_features_and_leaves_all_of_them_alone_at_ratio_1(
    name: str, dtype: torch.dtype
) -> None:
    tokens = make_tokens("scenes", (6, 3, 4), dtype)
    for ratio in ("0.3", "1"):
        got = choose(parse_method(name), tokens, ratio).features
        assert got is None or got.dtype == dtype
    assert got is None or torch.equal(got, tokens.features.tensor().flatten(0, 2))


@every_method
def test_only_a_method_that_says_so_ignores_the_ratio(name: str) -> None:
    assert METHODS.load(name).keeps_all == (name == "vanilla")


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_method_repeats_its_choice_and_leaves_its_input_as_it_was(name: str, dtype: torch.dtype) -> None:
    tokens = make_tokens("scenes", (6, 3, 4), dtype)
    before = {
        "features": tokens.features.tensor().clone(),
        **{key: value.tensor().clone() for key, value in tokens.evidence.items()},
    }
    torch.manual_seed(1)
    first = choose(parse_method(name), tokens, "0.3")
    torch.manual_seed(2)  # the global generator has no say
    second = choose(parse_method(name), tokens, "0.3")
    assert_same(first, second)
    assert len(first.index) == (72 if parse_method(name).keeps_all else 22)
    assert torch.equal(tokens.features.tensor(), before["features"])
    for key, value in tokens.evidence.items():
        assert torch.equal(value.tensor(), before[key])


@every_method
def test_a_method_leaves_the_global_generator_alone(name: str) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    choose(parse_method(name), make_tokens("noise", (6, 3, 4)), "0.3")
    assert torch.equal(torch.get_rng_state(), state)


@every_method
@pytest.mark.parametrize("factor", [2.0**-40, 0.5, 2.0**40])
def test_scaling_the_features_does_not_change_the_choice(name: str, factor: float) -> None:
    tokens = make_tokens("scenes", (6, 3, 4))
    scaled = replace(tokens, features=DenseFeatures(tokens.features.tensor() * factor))
    assert_same(choose(parse_method(name), tokens, "0.3"), choose(parse_method(name), scaled, "0.3"), factor)


@every_method
def test_the_table_says_what_a_method_needs_and_where_it_runs(name: str) -> None:
    method, entry = parse_method(name), METHODS.builtin[name]
    assert entry.needs == (", ".join(sorted(method.needs)) or "nothing")
    assert entry.runs == (INSIDE if method.inside else TOKENS)
    if method.inside:
        assert method.layer_pruner(make_tokens("scenes", (6, 3, 4)), parse_ratio("0.5")).budget == 36
    else:
        with pytest.raises(RequestError, match="does not work inside the LLM"):
            method.layer_pruner(make_tokens("scenes", (6, 3, 4)), parse_ratio("0.5"))


@every_method
def test_a_method_names_its_steps_as_text(name: str) -> None:
    steps: list[str] = []
    method = parse_method(name)
    method.select(make_tokens("noise", (6, 3, 4)), parse_ratio("0.3"), llm_for(method), steps.append)
    assert all(isinstance(step, str) and step for step in steps)
    assert len(set(steps)) == len(steps)


# --- The table --------------------------------------------------------------------------------------------------------


def test_every_file_of_the_folder_is_in_the_table_and_every_entry_exists() -> None:
    files = {item.name for item in pkgutil.iter_modules(stsimdiff_cli.methods.__path__)} - {"base", "spec"}
    modules = {METHODS.load(name).__module__.rpartition(".")[2] for name in METHODS.builtin}
    assert modules == files


@every_method
def test_a_method_is_listed_under_its_own_name(name: str) -> None:
    cls = METHODS.load(name)
    assert issubclass(cls, Method)
    assert cls.name == name
    assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}(")  # a docstring of its own


@every_method
def test_every_parameter_has_a_doc_and_a_default_that_fits(name: str) -> None:
    cls = METHODS.load(name)
    for item in fields(cls):
        assert item.metadata["doc"]
        assert item.default is not None
        if item.metadata["choices"]:
            assert item.default in item.metadata["choices"]
        assert type(item.default) in (bool, int, float, str)
    assert cls().parameters() == {item.name: item.default for item in fields(cls)}


@every_method
def test_every_method_can_be_written_with_all_its_parameters_and_read_back(name: str) -> None:
    method = parse_method(name)
    written = ",".join(f"{key}={value}" for key, value in method.parameters().items())
    assert parse_method(f"{name}:{written}") == method


@every_method
def test_a_value_outside_the_choices_is_refused_however_it_is_given(name: str) -> None:
    cls = METHODS.load(name)
    for item in fields(cls):
        if item.metadata["choices"]:
            for make in (
                lambda key=item.name: cls(**{key: "nonsense"}),
                lambda key=item.name: parse_method(name, **{key: "nonsense"}),
                lambda key=item.name: parse_method(f"{name}:{key}=nonsense"),
            ):
                with pytest.raises(RequestError, match=f"{item.name}=nonsense is not one of the choices") as caught:
                    make()
                assert caught.value.hint == f"Use {' or '.join(item.metadata['choices'])}."


@every_method
def test_a_method_cannot_be_changed_after_it_is_made(name: str) -> None:
    method = parse_method(name)
    for item in fields(method):
        with pytest.raises(FrozenInstanceError):
            setattr(method, item.name, item.default)


# --- Reading a method from text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "method"),
    [
        ("vanilla", Vanilla()),
        (" uniform ", Uniform()),
        ("random:", Random()),
        ("random:seed=7", Random(seed=7)),
        ("st-simdiff", StSimDiff()),
        ("st-simdiff:tau_sim=0.7,events=off", StSimDiff(tau_sim=0.7, events=False)),
        (" st-simdiff : tau_sim = 0.7 , events = ON , ", StSimDiff(tau_sim=0.7, events=True)),
        ("st-simdiff:tau_diff=p95", StSimDiff(tau_diff="p95")),
        ("st-simdiff:tau_diff=-0.1", StSimDiff(tau_diff=-0.1)),
        ("st-simdiff:spatial=false,temporal=true", StSimDiff(spatial=False, temporal=True)),
        ("st-simdiff:communities=leiden,max_community=none", StSimDiff(communities="leiden", max_community="none")),
    ],
)
def test_a_method_is_read_from_text(spec: str, method: Method) -> None:
    got = parse_method(spec)
    assert got == method
    for key, value in method.parameters().items():
        assert type(getattr(got, key)) is type(value)


def test_overrides_win_over_the_text() -> None:
    assert parse_method("st-simdiff:layer=3,tau_sim=0.7", layer="5") == StSimDiff(layer=5, tau_sim=0.7)


def test_overrides_are_checked_like_the_text() -> None:
    with pytest.raises(RequestError, match="layer=deep is not a whole number"):
        parse_method("st-simdiff", layer="deep")
    with pytest.raises(RequestError, match="The method uniform has no parameter layer") as caught:
        parse_method("uniform", layer="1")
    assert caught.value.hint == "Leave out --layer."


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("st-simdif", "There is no method named 'st-simdif'.", "Did you mean 'st-simdiff'?"),
        ("", "There is no method named ''.", "Known: "),
        ("zzz", "There is no method named 'zzz'.", "Known: "),
        ("st-simdiff:tausim=1", "There is no parameter of st-simdiff named 'tausim'.", "Did you mean 'tau_sim'?"),
        ("random:zzz=1", "There is no parameter of random named 'zzz'.", "Known: seed."),
        ("vanilla:ratio=1", "The method vanilla has no parameters.", "Write --method vanilla"),
        ("st-simdiff:events", "The parameter events has no value.", "Write st-simdiff:events=on"),
        ("st-simdiff:tau_sim=high", "st-simdiff: tau_sim=high is not a number.", "The default is 0.8."),
        ("st-simdiff:tau_sim=", "st-simdiff: tau_sim= is not a number.", "The default is 0.8."),
        ("st-simdiff:tau_sim=p95", "st-simdiff: tau_sim=p95 is not a number.", "The default is 0.8."),
        ("st-simdiff:tau_diff=", "st-simdiff: tau_diff= is not a number.", "The default is 0.2."),
        ("st-simdiff:tau_diff=p101", "tau_diff=p101 is neither a cosine nor a percentile.", "Give e.g. 0.2 or p95"),
        ("st-simdiff:tau_sim=nan", "tau_sim must be between -1 and 1, got nan.", "The default is 0.8."),
        ("st-simdiff:events=maybe", "st-simdiff: events=maybe is not on or off.", "The default is on."),
        ("st-simdiff:layer=1.5", "st-simdiff: layer=1.5 is not a whole number.", "The default is 1."),
        ("st-simdiff:importance=luck", "st-simdiff: importance=luck is not one of the choices.", "Use llm or saliency"),
        ("random:seed=-1", "seed must be at least 0 and below 2^63, got -1.", "The default is 0."),
        (
            "random:seed=9223372036854775808",
            "seed must be at least 0 and below 2^63, got 9223372036854775808.",
            "The default is 0.",
        ),
    ],
)
def test_a_wrong_method_is_refused_with_a_hint(spec: str, message: str, hint: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_method(spec)
    assert str(caught.value) == message
    assert caught.value.hint.startswith(hint)


def test_an_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(RequestError) as caught:
        parse_method("zzz")
    assert caught.value.hint == f"Known: {', '.join(METHODS)}."


# --- The controls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "index"),
    [
        ("0.1", [5]),
        ("0.2", [2, 7]),
        ("0.3", [1, 5, 8]),
        ("0.4", [1, 3, 6, 8]),
        ("0.5", [1, 3, 5, 7, 9]),
    ],
)
def test_uniform_takes_the_middle_of_every_equal_stretch(ratio: str, index: list[int]) -> None:
    # 10 tokens in 3 stretches of 10/3: middles 1.67, 5, 8.33, rounded down.
    assert choose(Uniform(), make_tokens("noise", (10, 1, 1)), ratio).index.tolist() == index


def test_random_draws_differ_by_seed_and_reach_every_token_about_equally_often() -> None:
    tokens = make_tokens("noise", (4, 1, 5))
    drawn = torch.zeros(20)
    for seed in range(500):
        drawn[choose(Random(seed=seed), tokens, "0.25").index] += 1
    # 500 draws of 5 from 20: 125 each, standard deviation 9.7; five of them are allowed.
    assert drawn.sum() == 2500
    assert bool(((drawn - 125).abs() < 49).all())


def test_plain_methods_give_no_reasons() -> None:
    for method in (Random(), Uniform(), Vanilla()):
        got = choose(method, make_tokens("scenes", (6, 3, 4)), "0.3")
        assert set(got.kind.tolist()) == {0}
        assert set(got.community.tolist()) == {-1}
        assert got.importance is None
        assert got.features is None


def test_methods_ask_for_no_evidence_they_do_not_declare() -> None:
    # Without evidence, a method that declares none must still work.
    for name in METHODS:
        method: Any = parse_method(name)
        tokens = make_tokens("scenes", (6, 3, 4))
        allowed = {key: value for key, value in tokens.evidence.items() if key in method.needs}
        choose(method, VideoTokens(tokens.grid, tokens.features, allowed), "0.3")
