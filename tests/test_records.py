"""Records: what they refuse, how they print, and when two are equal."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from stsimdiff_cli.records import CompressedVideo, Embeddings, Frames, Prompt, Selection, VideoTokens
from stsimdiff_cli.token_features import DenseFeatures
from tests.support.tokens import make_tokens

GRID = make_tokens().grid  # 4 x 3 x 5 tokens of width 16


def dense(*shape: int) -> DenseFeatures:
    return DenseFeatures(torch.zeros(shape), token_dims=1)


def ids(count: int) -> torch.Tensor:
    return torch.arange(count)


#: Of each record that holds tensors: how to make a valid one.
VALID = {
    Frames: {"pixels": torch.zeros((2, 4, 6, 3), dtype=torch.uint8), "seconds": (0.0, 0.5)},
    VideoTokens: {
        "grid": GRID,
        "features": dense(4, 3, 5, 16),
        "evidence": {"saliency": dense(4, 3, 5), "keys": dense(4, 3, 5, 2, 8)},
        "deepstack": dense(4, 3, 5, 3, 16),
    },
    Selection: {
        "index": ids(6),
        "kind": ids(6),
        "community": ids(6),
        "importance": torch.zeros(6),
        "features": torch.zeros(6, 16),
        "traces": {
            "change": torch.zeros(4),
            "regions": torch.zeros(4, 3, 5),
            "whole_of": torch.zeros(2),
            "centrality": torch.zeros(6),
        },
    },
    CompressedVideo: {
        "grid": GRID,
        "features": dense(6, 16),
        "index": ids(6),
        "kind": ids(6),
        "community": ids(6),
        "importance": torch.zeros(6),
        "method": {"name": "uniform"},
        "counts": {"kept": 6},
        "deepstack": dense(6, 3, 16),
        "traces": {
            "change": torch.zeros(4),
            "regions": torch.zeros(4, 3, 5),
            "whole_of": torch.zeros(2),
            "centrality": torch.zeros(6),
        },
    },
    Embeddings: {"features": torch.zeros(6, 16), "deepstack": torch.zeros(6, 3, 16)},
    Prompt: {"ids": ids(9), "visual": ids(9), "positions": torch.zeros(3, 9)},
}

#: A field that does not fit the others, and what the error says about it.
WRONG = [
    (Frames, "pixels", torch.zeros(3, 4, 6, 3), "pixels of shape (2, any, any, 3), got (3, 4, 6, 3)"),
    (Frames, "pixels", torch.zeros(2, 4, 6, 1), "pixels of shape (2, any, any, 3), got (2, 4, 6, 1)"),
    (Frames, "pixels", torch.zeros(2, 4, 6), "pixels of shape (2, any, any, 3), got (2, 4, 6)"),
    (VideoTokens, "features", dense(4, 3, 5, 8), "features of shape (4, 3, 5, 16), got (4, 3, 5, 8)"),
    (VideoTokens, "features", dense(60, 16), "features of shape (4, 3, 5, 16), got (60, 16)"),
    (VideoTokens, "deepstack", dense(4, 3, 5, 3, 8), "features of shape (4, 3, 5, any, 16), got (4, 3, 5, 3, 8)"),
    (VideoTokens, "evidence", {"saliency": dense(4, 5, 3)}, "saliency of shape (4, 3, 5), got (4, 5, 3)"),
    (Selection, "index", torch.zeros(6, 1), "index of shape (any), got (6, 1)"),
    (Selection, "kind", ids(5), "kind of shape (6), got (5,)"),
    (Selection, "community", ids(7), "community of shape (6), got (7,)"),
    (Selection, "importance", torch.zeros(5), "importance of shape (6), got (5,)"),
    (Selection, "features", torch.zeros(5, 16), "features of shape (6, any), got (5, 16)"),
    (Selection, "traces", {"centrality": torch.zeros(5)}, "centrality of shape (6), got (5,)"),
    (Selection, "traces", {"regions": torch.zeros(60)}, "regions of shape (any, any, any), got (60,)"),
    (Selection, "traces", {"colour": torch.zeros(6)}, "got 'colour'"),
    (CompressedVideo, "index", ids(5), "kind of shape (5), got (6,)"),
    (CompressedVideo, "kind", ids(5), "kind of shape (6), got (5,)"),
    (CompressedVideo, "community", ids(5), "community of shape (6), got (5,)"),
    (CompressedVideo, "importance", torch.zeros(60), "importance of shape (6), got (60,)"),
    (CompressedVideo, "features", dense(6, 8), "features of shape (6, 16), got (6, 8)"),
    (CompressedVideo, "features", dense(60, 16), "features of shape (6, 16), got (60, 16)"),
    (CompressedVideo, "deepstack", dense(6, 16), "features of shape (6, any, 16), got (6, 16)"),
    (CompressedVideo, "traces", {"change": torch.zeros(5)}, "change of shape (4), got (5,)"),
    (CompressedVideo, "traces", {"regions": torch.zeros(4, 5, 3)}, "regions of shape (4, 3, 5), got (4, 5, 3)"),
    (Embeddings, "features", torch.zeros(6), "features of shape (any, any), got (6,)"),
    (Embeddings, "deepstack", torch.zeros(5, 3, 16), "features of shape (6, any, 16), got (5, 3, 16)"),
    (Prompt, "ids", torch.zeros(1, 9), "ids of shape (any), got (1, 9)"),
    (Prompt, "visual", ids(8), "visual of shape (9), got (8,)"),
    (Prompt, "positions", torch.zeros(9), "positions of shape (any, 9), got (9,)"),
    (Prompt, "positions", torch.zeros(3, 8), "positions of shape (any, 9), got (3, 8)"),
]


@pytest.mark.parametrize(("record", "name", "value", "message"), WRONG)
def test_a_tensor_of_the_wrong_shape_is_refused_with_what_was_expected_and_what_it_got(record, name, value, message):
    with pytest.raises(ValueError, match="expected") as caught:
        record(**VALID[record] | {name: value})
    assert message in str(caught.value)


def test_every_tensor_of_every_record_has_a_wrong_shape_above():
    held = {(record, name) for record, given in VALID.items() for name, value in given.items() if holds_tensors(value)}
    assert held == {(record, name) for record, name, *_ in WRONG}


def holds_tensors(value: object) -> bool:
    return any(hasattr(item, "ndim") or hasattr(item, "chunks") for item in _items(value))


def _items(value: object) -> list:
    return list(value.values()) if isinstance(value, dict) else [value]


@pytest.mark.parametrize("record", VALID)
def test_a_record_prints_shapes_instead_of_numbers(record):
    text = repr(record(**VALID[record]))
    assert text.startswith(f"{record.__name__}(")
    assert "tensor(" not in text
    assert len(text) < 600
    for value in VALID[record].values():
        if hasattr(value, "shape") and value is not GRID:
            assert str(tuple(value.shape)) in text


def test_a_grid_prints_as_its_shape_model_and_video():
    assert "grid=TokenGrid(4 x 3 x 5, nobody/nothing, clip.mp4)" in repr(VideoTokens(**VALID[VideoTokens]))


@pytest.mark.parametrize("record", VALID)
def test_a_record_of_tensors_equals_only_itself(record):
    first, second = record(**VALID[record]), record(**VALID[record])
    assert first == first
    assert first != second
    assert len({first, second}) == 2


def test_records_without_tensors_are_equal_if_their_fields_are():
    assert replace(GRID) == GRID
    assert replace(GRID, width=8) != GRID


@pytest.mark.parametrize("record", VALID)
def test_records_are_frozen(record):
    made = record(**VALID[record])
    with pytest.raises(FrozenInstanceError):
        setattr(made, next(iter(VALID[record])), None)


def test_embeddings_are_the_tokens_in_the_order_of_their_positions():
    tokens = make_tokens(deepstack=torch.rand(4, 3, 5, 2, 16))
    flat, deep = tokens.features.tensor().flatten(0, 2), tokens.deepstack.tensor().flatten(0, 2)
    index = torch.tensor([0, 7, 59])
    for made, expected in ((tokens.embeddings, slice(None)), (tokens.embeddings_at(index), index)):
        assert torch.equal(made.features, flat[expected])
        assert torch.equal(made.deepstack, deep[expected])
    part = tokens.embeddings[index]
    assert torch.equal(part.features, flat[index])
    assert torch.equal(part.deepstack, deep[index])


def test_a_part_of_a_prompt_has_the_same_part_of_everything():
    prompt = Prompt(ids(9), ids(9) - 4, torch.arange(27).view(3, 9))
    for part in (slice(2, 5), ids(9) % 2 == 0):
        made = prompt[part]
        assert torch.equal(made.ids, prompt.ids[part])
        assert torch.equal(made.visual, prompt.visual[part])
        assert torch.equal(made.positions, prompt.positions[:, part])


def test_records_are_imported_without_torch():
    code = "import sys, stsimdiff_cli.records; print({'torch', 'numpy', 'safetensors'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
