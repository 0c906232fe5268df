"""A command that refuses an option that is given twice, instead of taking the last value without a word."""

from __future__ import annotations

from collections import Counter
from typing import Any

from typer.core import TyperCommand

from ..errors import RequestError


class Command(TyperCommand):
    """A command of the program."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line. RequestError for an option with a value that is given more than once."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        parameters: Counter[Any] = Counter(order)
        for parameter, count in parameters.items():
            single = parameter.param_type_name == "option" and not (parameter.multiple or parameter.is_flag)
            if count > 1 and single:
                raise RequestError(f"{max(parameter.opts, key=len)} is given {count} times.", "Give it once.")
        return super().parse_args(ctx, args)
