"""Token features in memory and in a file: one contract for both. What only a file does: test_tensor_file.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from stsimdiff_cli.storage.file_features import FileFeatures
from stsimdiff_cli.storage.tensor_file import checksum
from stsimdiff_cli.token_features import DenseFeatures, TokenFeatures
from tests.support.tokens import file_features

Make = Callable[[Tensor], TokenFeatures]


@pytest.fixture(params=["memory", "file"])
def make(request, tmp_path) -> Make:
    """Features (T, H, W, ...) made of a tensor."""

    def in_file(tensor: Tensor) -> FileFeatures:
        save_file({"features": tensor, "index": torch.arange(8)}, tmp_path / "x")  # the index comes first in the file
        return file_features(tmp_path / "x", "features", checksum(tensor))

    return DenseFeatures if request.param == "memory" else in_file


@pytest.fixture(params=[(torch.bfloat16, (8, 2, 3, 5)), (torch.float32, (8, 2, 3)), (torch.float16, (8, 2, 3, 2, 4))])
def tensor(request) -> Tensor:
    dtype, shape = request.param
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def read(features: TokenFeatures, *given) -> list[tuple[int, Tensor]]:
    """The chunks, copied: each is valid only until the next."""
    return [(begin, chunk.clone()) for begin, chunk in features.chunks(*given)]


def test_shape_type_and_device_are_those_of_the_tensor(make, tensor):
    features = make(tensor)
    assert features.shape == tuple(tensor.shape)
    assert features.dtype == tensor.dtype
    assert features.device == torch.device("cpu")


def test_the_tensor_is_given_back(make, tensor):
    assert torch.equal(make(tensor).tensor(), tensor)


@pytest.mark.parametrize("rows", [1, 3, 8, 100])
def test_chunks_are_all_rows_in_order(make, tensor, rows):
    chunks = read(make(tensor), rows)
    assert [begin for begin, _ in chunks] == list(range(0, 8, rows))
    assert torch.equal(torch.cat([chunk for _, chunk in chunks]), tensor)


def test_the_default_chunk_has_chunk_rows(make, tensor):
    features = make(tensor)
    assert [len(chunk) for _, chunk in read(features)] == [min(features.chunk_rows, 8)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([0, 1, 0, 0, 0, 0, 1, 0], [(1, 1), (6, 1)]),
        ([1, 0, 1, 0, 0, 0, 0, 0], [(0, 3)]),
        ([0, 0, 0, 1, 1, 0, 0, 1], [(3, 2), (7, 1)]),
        ([0] * 8, []),
    ],
)
def test_a_chunk_goes_from_the_first_wanted_row_to_the_last(make, tensor, wanted, expected):
    chunks = read(make(tensor), 3, torch.tensor(wanted).bool())
    assert [(begin, len(chunk)) for begin, chunk in chunks] == expected
    for begin, chunk in chunks:
        assert torch.equal(chunk, tensor[begin : begin + len(chunk)])


INDICES = [[0, 1, 2, 7, 9, 10, 40, 47], [], [47], list(range(48))]


@pytest.mark.parametrize("index", INDICES, ids=len)
def test_tokens_are_gathered_by_flat_position(make, tensor, index):
    index = torch.tensor(index, dtype=torch.int64)
    gathered = make(tensor).gather(index)
    assert gathered.shape == (len(index), *tensor.shape[3:])
    assert gathered.dtype == tensor.dtype
    assert torch.equal(gathered.tensor(), tensor.flatten(0, 2)[index])


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_gathered_tokens_come_in_chunks_too(make, tensor, rows):
    index = torch.tensor([0, 1, 2, 7, 9, 10, 40, 47])
    chunks = read(make(tensor).gather(index), rows)
    assert [begin for begin, _ in chunks] == list(range(0, 8, rows))
    assert torch.equal(torch.cat([chunk for _, chunk in chunks]), tensor.flatten(0, 2)[index])


def test_gathered_tokens_are_gathered_by_their_place_among_them(make, tensor):
    index = torch.tensor([0, 1, 2, 7, 9, 10, 40, 47])
    again = make(tensor).gather(index).gather(torch.tensor([1, 6]))
    assert torch.equal(again.tensor(), tensor.flatten(0, 2)[[1, 40]])


def test_features_are_delivered_on_the_device_asked_for(make, tensor):
    features = make(tensor)
    moved = features.to("meta")
    assert moved.device.type == moved.tensor().device.type == "meta"
    assert {chunk.device.type for _, chunk in moved.chunks(3)} == {"meta"}
    assert features.device.type == "cpu"
    assert moved.shape == features.shape


def test_features_print_their_type_and_shape(make, tensor):
    text = repr(make(tensor))
    assert f"{str(tensor.dtype).removeprefix('torch.')}{tuple(tensor.shape)}" in text
    assert "tensor(" not in text


def test_features_with_too_few_dimensions_are_refused():
    with pytest.raises(ValueError, match=r"at least 3 dimensions, got \(6, 16\)"):
        DenseFeatures(torch.zeros(6, 16))
