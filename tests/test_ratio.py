"""The ratio is an exact decimal, and the budget is its exact ceiling."""

from __future__ import annotations

import time
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from typing import Any

import pytest

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.ratio import parse_ratio

COUNTS = [*range(1, 401), 12_544, 13_440, 65_535, 100_000, 1_000_003, 10**9]


@pytest.mark.parametrize("percent", range(1, 101))
def test_budget_is_the_exact_ceiling_of_every_percentage(percent: int) -> None:
    text = str(Decimal(percent) / 100)
    exact, rounded = parse_ratio(text), parse_ratio(percent / 100)
    assert exact == rounded and exact.exact == Fraction(percent, 100)
    for tokens in COUNTS:
        assert exact.budget(tokens) == (Decimal(text) * tokens).to_integral_value(rounding=ROUND_CEILING)


@pytest.mark.parametrize(
    ("ratio", "tokens", "kept"),
    [
        ("0.07", 100, 7),  # 0.07 * 100 is 7.000000000000001 in binary floats
        ("0.1", 30, 3),
        ("0.29", 100, 29),
        ("0.3", 10, 3),
        ("0.3", 11, 4),
        ("0.000000001", 1, 1),
        ("0.999999999", 10**9, 999_999_999),
        ("1", 12_345, 12_345),
    ],
)
def test_budget_of_known_cases(ratio: str, tokens: int, kept: int) -> None:
    assert parse_ratio(ratio).budget(tokens) == kept


@pytest.mark.parametrize(
    ("written", "ratio"),
    [
        ("0.3", Fraction(3, 10)),
        (" 0.30 ", Fraction(3, 10)),
        (".5", Fraction(1, 2)),
        ("3e-1", Fraction(3, 10)),
        ("1", Fraction(1)),
        ("1.000", Fraction(1)),
        (1, Fraction(1)),
        (0.07, Fraction(7, 100)),
        (1e-9, Fraction(1, 10**9)),
        (Fraction(1, 3), Fraction(1, 3)),
    ],
)
def test_ratio_is_read_exactly(written: Any, ratio: Fraction) -> None:
    assert parse_ratio(written).exact == ratio


@pytest.mark.parametrize(
    "written", ["", " ", "abc", "30%", "1/3", "0,3", "0.3.1", "nan", "-nan", "sNaN", "inf", "-inf"]
)
def test_what_is_not_a_number_is_refused_in_the_users_words(written: str) -> None:
    with pytest.raises(RequestError, match="is not a number") as caught:
        parse_ratio(written)
    assert repr(written) in str(caught.value)
    assert "--ratio 0.3" in caught.value.hint


@pytest.mark.parametrize(
    "written", ["0", "-0", "0.0", "-0.1", "1.01", "1.000000001", "30", "1e999999999", "-1e999999999", 0, -1, 2.0, 30]
)
def test_a_ratio_outside_0_to_1_is_refused(written: Any) -> None:
    with pytest.raises(RequestError, match=r"is outside \(0, 1\]") as caught:
        parse_ratio(written)
    assert "--ratio 0.3" in caught.value.hint


def test_fractions_outside_0_to_1_are_refused() -> None:
    for ratio in (Fraction(0), Fraction(-1, 3), Fraction(4, 3)):
        with pytest.raises(RequestError, match=r"is outside \(0, 1\]"):
            parse_ratio(ratio)


@pytest.mark.parametrize("written", ["1e-12", "1e-10", "0.3000000001", 1e-12, 0.1 + 0.2, Fraction(1, 10**9 + 1)])
def test_more_than_nine_decimals_are_refused(written: Any) -> None:
    with pytest.raises(RequestError, match="more than nine decimals") as caught:
        parse_ratio(written)
    assert caught.value.hint == "Round it."


def test_an_absurd_exponent_is_refused_at_once() -> None:
    start = time.perf_counter()
    with pytest.raises(RequestError, match="more than nine decimals"):
        parse_ratio("1e-999999999")
    assert time.perf_counter() - start < 1
