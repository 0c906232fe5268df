"""Plans: variants, ratios, the ablation and sweeps, as users write them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.evaluation.plan import make_plan, parse_ratios, parse_sweep
from stsimdiff_cli.methods import METHODS


def test_parameters_stay_with_their_method_and_vanilla_is_always_there():
    plan = make_plan("st-simdiff:tau_sim=0.7,tau_diff=p95, random:seed=3", "0.3")
    assert plan.methods == ["vanilla", "st-simdiff:tau_sim=0.7,tau_diff=p95", "random:seed=3"]
    assert list(plan.variants) == plan.methods
    assert plan.variants["random:seed=3"].method.parameters() == {"seed": 3}
    assert plan.cells() == [("vanilla", "1"), (plan.methods[1], "0.3"), (plan.methods[2], "0.3")]


@pytest.mark.parametrize("text", ["st-simdiff,st-simdiff:tau_sim=0.8", "vanilla,st-simdiff:events=on,st-simdiff"])
def test_a_variant_is_the_same_however_it_is_written(text):
    assert make_plan(text, "0.3").methods == ["vanilla", "st-simdiff"]


def test_all_is_the_table_of_methods():
    for text in ("all", None, " all "):
        plan = make_plan(text, "0.3")
        assert plan.methods[0] == "vanilla"
        assert sorted(plan.methods) == sorted(METHODS)
    assert make_plan(None, "0.3", ablation=True).methods == ["vanilla", "st-simdiff"]
    more = make_plan("all,st-simdiff@question", "0.3")
    assert more.methods == [*make_plan("all", "0.3").methods, "st-simdiff@question"]
    assert make_plan(None, "0.3", sweep="layer=0:1").methods == ["vanilla", "st-simdiff"]


def test_the_form_is_part_of_the_name():
    plan = make_plan("st-simdiff,st-simdiff@question,st-simdiff:layer=2@question,fastv@inside,evs@packed", "0.3")
    assert {name: each.form for name, each in plan.variants.items()} == {
        "vanilla": "",
        "st-simdiff": "",
        "st-simdiff@question": "question",
        "st-simdiff:layer=2@question": "question",
        "fastv@inside": "inside",
        "evs@packed": "packed",
    }
    assert plan.variants["st-simdiff:layer=2@question"].method.layer == 2


def test_evidence_is_what_the_encoder_has_to_give():
    assert make_plan("st-simdiff,fastv,uniform", "0.3").evidence == frozenset()
    assert make_plan("all", "0.3").evidence == {"saliency", "keys"}
    assert make_plan("st-simdiff:importance=saliency,random", "0.3").evidence == {"saliency"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("st-simdif", "named 'st-simdif'"),
        ("st-simdiff:tau=0.8", "parameter of st-simdiff named 'tau'"),
        ("st-simdiff@prompt", "no form named 'prompt'"),
        ("uniform@inside", "uniform does not work inside the LLM"),
        ("uniform@file", "no other form than that for files"),
        ("random@question", "random does not look at the prompt"),
        ("st-simdiff:importance=centrality@question", "does not look at the prompt"),
        (",", "no method"),
    ],
)
def test_an_unknown_variant_is_refused_with_a_hint(text, message):
    with pytest.raises(RequestError, match=message) as caught:
        make_plan(text, "0.3")
    assert caught.value.hint


def test_ratios_are_sorted_and_once_each():
    found = parse_ratios("0.5, 0.1,1.0,.5,0.50,1")
    assert [(text, ratio.exact) for text, ratio in found.items()] == [
        ("0.1", Fraction(1, 10)),
        ("0.5", Fraction(1, 2)),
        ("1.0", Fraction(1)),
    ]
    assert make_plan("random", "0.5,0.1").cells() == [("vanilla", "1"), ("random", "0.1"), ("random", "0.5")]


def test_the_ablation_is_table_3():
    plan = make_plan(None, "0.3", ablation=True)
    methods = {label: plan.variants[name].method for label, name in plan.ablation.items()}
    assert {label: (each.spatial, each.temporal, each.events) for label, each in methods.items()} == {
        "importance only": (False, False, False),
        "+ spatial": (True, False, False),
        "+ temporal": (False, True, False),
        "+ spatial + temporal": (True, True, False),
        "+ events": (True, True, True),
    }
    assert plan.ablation["+ events"] == "st-simdiff"
    assert set(plan.variants) == {"vanilla", *plan.ablation.values()}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("tau_sim=0.6:0.95", ["0.60", "0.65", "0.70", "0.75", "0.80", "0.85", "0.90", "0.95"]),
        ("tau_diff=0.1:0.4:0.1", ["0.1", "0.2", "0.3", "0.4"]),
        ("tau_sim=0.5:0.69:0.1", ["0.5", "0.6"]),
        ("tau_sim=0.8:0.8", ["0.80"]),
        ("layer=0:3", ["0", "1", "2", "3"]),
        ("tau_diff=0.2|p95|p99", ["0.2", "p95", "p99"]),
        ("max_community=sqrt|none", ["sqrt", "none"]),
    ],
)
def test_a_sweep_holds_both_ends(text, values):
    ((_, found),) = parse_sweep(text).items()
    assert len(found) == len(values)
    for got, expected in zip(found, values, strict=True):
        assert got == expected or Fraction(got) == Fraction(expected)


def test_a_sweep_of_several_parameters_shares_variants():
    plan = make_plan(None, "0.3", sweep="tau_sim=0.7:0.8:0.1,importance=llm|centrality")
    assert plan.sweep == {
        "tau_sim": {"0.7": "st-simdiff:tau_sim=0.7", "0.8": "st-simdiff"},
        "importance": {"llm": "st-simdiff", "centrality": "st-simdiff:importance=centrality"},
    }
    assert list(plan.variants) == [
        "vanilla", "st-simdiff", "st-simdiff:tau_sim=0.7", "st-simdiff:importance=centrality",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "tau=0.6:0.9", "tau_sim", "tau_sim=", "tau_sim=0.9:0.6", "tau_sim=0.6:0.9:0", "tau_sim=0.6:0.9:-0.1",
        "tau_sim=a:b", "tau_sim=0.6:0.7:0.8:0.9", "tau_sim=nan:0.9", "tau_sim=0:inf", "tau_sim=0:1:0.001",
        "tau_sim=0.6:0.9:nan", "tau_sim=0.6:0.9:inf", "tau_sim=1e-999999999:0.9:0.3", "tau_sim=0.8:1.2",
        "layer=0:2:0.5", "importance=llm|beauty",
    ],
)  # fmt: skip
def test_a_bad_sweep_is_refused_with_a_hint(text):
    with pytest.raises(RequestError) as caught:
        parse_sweep(text)
    assert caught.value.hint


def test_a_parameter_named_twice_is_swept_over_both_ranges():
    assert parse_sweep("layer=0:1,layer=1:2") == {"layer": ["0", "1", "2"]}
