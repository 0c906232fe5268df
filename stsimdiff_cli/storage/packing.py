"""How features are stored: in which type of float, or in how many bits. Known without torch.

Packed features have two tensors: `features` of bytes (U8), and `features.scale` (float32), one for each vector of D
numbers. Deepstack features likewise. storage/packed.py says what is in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..records import Amount, Within
from ..registry import unknown_name

#: The types of floats that features may be stored in, by their names for --dtype too.
FLOATS = ("float32", "bfloat16", "float16")
#: The packed forms, and their bits for each number.
BITS = {"int8": 8, "int4": 4, "int3": 3}
#: The forms that a byte budget chooses from if nobody says one, and their bits, the largest first.
CHOSEN = {"bfloat16": 16, "int8": 8, "int4": 4}
STORES = (*FLOATS, *BITS)
#: What leaves features as they come: in the type that they were computed in, or packed as they were in a file.
AUTO = "auto"
#: The tensors that are stored in another form.
PACKED = ("features", "deepstack")
#: After the name of a packed tensor: its scales.
SCALE = ".scale"
#: The seed of the rotation in every file that is written.
SEED = 0


@dataclass(frozen=True)
class Packing:
    """How the features of a file are packed; an entry of its header."""

    bits: Annotated[int, Within(1, 8)]  # for each number
    dtype: str  # of the numbers that unpacking delivers, in FLOATS
    seed: Amount  # of the signs of the rotation

    @property
    def store(self) -> str:
        """The form as --store names it."""
        return next((name for name, bits in BITS.items() if bits == self.bits), f"int{self.bits}")

    def bytes(self, width: int) -> int:
        """Bytes of a packed vector: 8 numbers take as many bytes as a number has bits."""
        return -(-width // 8) * self.bits


def parse_store(name: str) -> str | None:
    """One of STORES; None for AUTO. RequestError for any other name."""
    if name == AUTO:
        return None
    if name not in STORES:
        raise unknown_name("form of storage", name, [AUTO, *STORES])
    return name
