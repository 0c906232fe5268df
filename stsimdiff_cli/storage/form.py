"""The form in which a file holds its features: as they come, as another type of float, or packed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import RequestError
from ..token_features import TokenFeatures
from .finite import all_finite
from .packed import PackedFeatures, pack
from .packing import BITS, CHOSEN, FLOATS, PACKED, SCALE, SEED, Packing
from .tensor_file import Spec


class Form:
    """Turns the tensors that a writer is given into those of its file. `store` is one of packing.STORES, or None.

    `given` are the types and shapes of the tensors. `packing` is what the header says.
    """

    def __init__(self, store: str | None, given: Mapping[str, Spec]) -> None:
        self.store = store
        self.packing: Packing | None = None
        if store in BITS:
            dtype = str(given["features"][0]).removeprefix("torch.")
            self.packing = Packing(BITS[store], dtype if dtype in FLOATS else FLOATS[0], SEED)
        self.specs = {
            stored: spec for name, one in given.items() for stored, spec in self._stored_specs(name, one).items()
        }

    @classmethod
    def of_packed(cls, packing: Packing, given: Mapping[str, Spec]) -> Form:
        """The form of features that come as codes and scales, and stay so."""
        form = cls(None, given)
        form.packing = packing
        return form

    def stored(self, name: str, rows: Tensor) -> dict[str, Tensor]:
        """What is stored of some rows of a tensor, by name. RequestError for numbers that the form cannot hold."""
        if self.store is None or name not in PACKED:
            return {name: rows}
        if self.packing is not None:
            codes, scales = pack(rows.cpu(), self.packing)
            return {name: codes, name + SCALE: scales}
        as_floats = rows.to(getattr(torch, self.store))
        if not all_finite(as_floats):
            raise RequestError(f"{name} holds numbers that are too large for {self.store}.", "Use --store bfloat16.")
        return {name: as_floats}

    def _stored_specs(self, name: str, spec: Spec) -> dict[str, Spec]:
        shape = spec[1]
        if self.store is None or name not in PACKED:
            return {name: spec}
        if self.packing is not None:
            codes = (*shape[:-1], self.packing.bytes(shape[-1]))
            return {name: (torch.uint8, codes), name + SCALE: (torch.float32, shape[:-1])}
        return {name: (getattr(torch, self.store), shape)}


def forms_by_size(features: TokenFeatures) -> list[str | None]:
    """Forms that a byte budget chooses from, the largest first: as the features are, and fewer bits."""
    bits = features.packing.bits if isinstance(features, PackedFeatures) else 8 * features.dtype.itemsize
    fewer: list[str | None] = [name for name, size in CHOSEN.items() if size < bits]
    return [None, *fewer]


def still_packed(
    tensors: Mapping[str, TokenFeatures], store: str | None
) -> tuple[Mapping[str, TokenFeatures], Packing | None]:
    """Codes and scales in the place of features that can stay packed as they are, so that nothing more is lost.

    The packing is None if they cannot: they are not packed, not all in the same way, or `store` is another form.
    """
    packed = {name: values for name, values in tensors.items() if isinstance(values, PackedFeatures)}
    packings = {values.packing for values in packed.values()}
    if len(packings) != 1 or set(packed) != set(PACKED) & set(tensors):
        return tensors, None
    (packing,) = packings
    if store not in (None, packing.store):
        return tensors, None
    codes: dict[str, TokenFeatures] = {name: values.codes for name, values in packed.items()}
    scales: dict[str, TokenFeatures] = {name + SCALE: values.scales for name, values in packed.items()}
    return {**tensors, **codes, **scales}, packing
