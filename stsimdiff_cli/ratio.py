"""The ratio: the fraction of tokens kept, an exact decimal in (0, 1]."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from .errors import RequestError


@dataclass(frozen=True)
class Ratio:
    """The fraction of tokens to keep. Ratios are equal if their values are, however they were written."""

    exact: Fraction  # in (0, 1]
    text: str = field(compare=False)  # as the user wrote it

    def __str__(self) -> str:
        return self.text

    def __float__(self) -> float:
        return self.exact.numerator / self.exact.denominator

    @property
    def decimal(self) -> str:
        """The value as files record it: a decimal if that is exact, else a fraction."""
        text = str(float(self))
        return text if Fraction(text) == self.exact else str(self.exact)

    def budget(self, tokens: int) -> int:
        """How many of N tokens to keep: ceil(r N), in exact arithmetic."""
        return -(-self.exact.numerator * tokens // self.exact.denominator)


#: Keep every token.
ALL = Ratio(Fraction(1), "1")


def parse_ratio(value: str | float | Fraction | Ratio) -> Ratio:
    """The exact ratio that a user wrote: "0.07" is 7/100, not the nearest binary number.

    Raises RequestError for anything but a number in (0, 1] with at most nine decimals.
    """
    if isinstance(value, Ratio):
        return value
    hint = "Give the fraction of tokens to keep, above 0 and at most 1, e.g. --ratio 0.3"
    if isinstance(value, Fraction):
        written: Fraction | Decimal = value
    else:
        try:
            written = Decimal(str(value).strip())
        except InvalidOperation as error:
            raise RequestError(f"The ratio {str(value)!r} is not a number.", hint) from error
        if not written.is_finite():
            raise RequestError(f"The ratio {str(value)!r} is not a number.", hint)
    if not 0 < written <= 1:
        raise RequestError(f"The ratio {value} is outside (0, 1].", hint)
    if written >= Decimal("1e-9"):  # as a fraction, 1e-999999999 has a billion digits
        ratio = Fraction(written)
        if ratio.denominator <= 10**9:
            return Ratio(ratio, str(value).strip())
    raise RequestError(f"The ratio {value} has more than nine decimals.", "Round it.")


def shares(total: int, sizes: list[int]) -> list[int]:
    """Split a budget over slots in proportion to their `sizes`: integers that add up to `total`, each at most its size.

    The sum of the first shares is floor(total x their sizes / all sizes), so that remainders are spread evenly over
    the video instead of going to its beginning. Raises ValueError if `total` is more than all sizes together.
    """
    everything = sum(sizes)
    if not 0 <= total <= everything:
        raise ValueError(f"expected a total from 0 to {everything}, got {total}")
    size_so_far, sum_so_far, parts = 0, 0, []
    for size in sizes:
        size_so_far += size
        following = total * size_so_far // everything if everything else 0
        parts.append(following - sum_so_far)
        sum_so_far = following
    return parts
