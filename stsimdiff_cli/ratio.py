"""The ratio: the fraction of tokens kept, an exact decimal in (0, 1]."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from .errors import RequestError


@dataclass(frozen=True)
class Ratio:
    """The fraction of tokens kept. Two ratios are equal if their numbers are, however they were written."""

    exact: Fraction  # in (0, 1]
    text: str = field(compare=False)  # as the user wrote it

    def __str__(self) -> str:
        return self.text

    def __float__(self) -> float:
        return self.exact.numerator / self.exact.denominator

    @property
    def decimal(self) -> str:
        """The number as files record it: a decimal if that is exact, else a fraction."""
        text = str(float(self))
        return text if Fraction(text) == self.exact else str(self.exact)

    def budget(self, tokens: int) -> int:
        """ceil(r N) in exact arithmetic."""
        return -(-self.exact.numerator * tokens // self.exact.denominator)


#: Every token.
ALL = Ratio(Fraction(1), "1")


def parse_ratio(value: str | float | Fraction | Ratio) -> Ratio:
    """The ratio that a user wrote, exactly: "0.07" is 7/100, never the nearest binary number.

    RequestError for anything but a number in (0, 1] of at most nine decimals.
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
    """Whole numbers that add up to `total`, as even as `sizes` allow, each at most its size; for budgets of slots.

    In proportion to the sizes: the running sum is floor(total x sizes so far / all sizes), so that what cannot be
    divided is spread evenly over the video and not given to its beginning. ValueError if total exceeds all sizes.
    """
    everything = sum(sizes)
    if not 0 <= total <= everything:
        raise ValueError(f"total: got {total}, expected 0 to {everything}")
    running, given, found = 0, 0, []
    for size in sizes:
        running += size
        upto = total * running // everything if everything else 0
        found.append(upto - given)
        given = upto
    return found
