"""What is compared: variants, ratios, the rows of an ablation and the points of a sweep."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation

from ..errors import RequestError
from ..methods import METHODS
from ..methods.spec import parse_method, split_methods
from ..ratio import Ratio, parse_ratio
from ..registry import unknown_name
from .variants import BASELINE, REFERENCE, Variant, parse_variant

#: A variant by name and a ratio as written: one column of results.
Cell = tuple[str, str]
#: All tokens: the cell that all others are compared with.
WHOLE: Cell = (BASELINE, "1")
#: Table 3 of the paper, row by row: what is left of the method.
ABLATION = {
    "importance only": "st-simdiff:spatial=off,temporal=off,events=off",
    "+ spatial": "st-simdiff:temporal=off,events=off",
    "+ temporal": "st-simdiff:spatial=off,events=off",
    "+ spatial + temporal": "st-simdiff:events=off",
    "+ events": "st-simdiff",
}
_MOST_POINTS = 40  # of a sweep


@dataclass(frozen=True)
class Plan:
    """Variants by name, ratios as written, and which variants make up the ablation and each curve of a sweep."""

    variants: dict[str, Variant]
    ratios: dict[str, Ratio]
    methods: list[str]
    ablation: dict[str, str] = field(default_factory=dict)  # label -> name
    sweep: dict[str, dict[str, str]] = field(default_factory=dict)  # parameter -> value -> name

    def cells(self) -> list[Cell]:
        """(name, ratio) of everything to measure; a method that keeps all has only the ratio 1."""
        return [
            (name, ratio)
            for name, variant in self.variants.items()
            for ratio in (["1"] if variant.method.keeps_all else self.ratios)
        ]

    @property
    def evidence(self) -> frozenset[str]:
        """What the encoder must give besides features."""
        return frozenset().union(*(variant.method.evidence for variant in self.variants.values()))


def make_plan(methods: str | None, ratios: str, ablation: bool = False, sweep: str = "") -> Plan:
    """Read what a user asks for.

    `methods` is a list; "all" in it stands for the whole table with the methods of installed packages, and None means
    all, or st-simdiff alone if there is an ablation or a sweep. Vanilla is always among them.
    """
    if methods is None:
        methods = REFERENCE if ablation or sweep else "all"
    specs = [each for spec in split_methods(methods) for each in (METHODS if spec == "all" else [spec])]
    variants: dict[str, Variant] = {}

    def enter(spec: str) -> str:
        variant = parse_variant(spec)
        variants.setdefault(variant.name, variant)
        return variant.name

    enter(BASELINE)
    compared = list(dict.fromkeys(enter(spec) for spec in specs))
    return Plan(
        methods=[BASELINE, *(name for name in compared if name != BASELINE)],
        ablation={label: enter(spec) for label, spec in ABLATION.items()} if ablation else {},
        sweep={
            name: {value: enter(f"{REFERENCE}:{name}={value}") for value in values}
            for name, values in parse_sweep(sweep).items()
        },
        variants=variants,
        ratios=parse_ratios(ratios),
    )


def parse_ratios(text: str) -> dict[str, Ratio]:
    """Ratios as written, each once, in ascending order."""
    ratios = dict.fromkeys(parse_ratio(part) for part in text.split(","))
    return {ratio.text: ratio for ratio in sorted(ratios, key=lambda ratio: ratio.exact)}


def parse_sweep(text: str) -> dict[str, list[str]]:
    """Values by parameter of `tau_sim=0.6:0.95,layer=0:3,max_community=sqrt|none`.

    A range is low:high or low:high:step, both ends included; the step is 0.05, or 1 for whole numbers.
    """
    known = {item.name: item.default for item in fields(METHODS.load(REFERENCE))}
    sweep: dict[str, list[str]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, values = part.partition("=")
        if name not in known:
            raise unknown_name(f"parameter of {REFERENCE}", name, list(known))
        if not equals or not values:
            raise RequestError(f"--sweep {part} has no values.", f"Write e.g. --sweep {name}=0.6:0.95")
        whole = isinstance(known[name], int) and not isinstance(known[name], bool)
        points = _range(part, values, whole) if ":" in values else values.split("|")
        for value in points:
            parse_method(f"{REFERENCE}:{name}={value}")
        sweep[name] = list(dict.fromkeys([*sweep.get(name, []), *points]))
    return sweep


def _range(part: str, text: str, whole: bool) -> list[str]:
    try:
        low, high, *more = (Decimal(number) for number in text.split(":"))
        (step,) = more or [Decimal(1) if whole else Decimal("0.05")]
    except (InvalidOperation, ValueError):
        raise RequestError(
            f"--sweep {part} is not a range.", "Write low:high or low:high:step, or values a|b|c"
        ) from None
    plain = all(number.is_finite() and -9 <= number.adjusted() <= 9 for number in (low, high, step))
    if not plain or step <= 0 or high < low or (high - low) / step >= _MOST_POINTS:
        raise RequestError(f"--sweep {part} is not a range of 1 to {_MOST_POINTS} points.", "Write low:high:step")
    return [f"{low + i * step:f}" for i in range(int((high - low) / step) + 1)]
