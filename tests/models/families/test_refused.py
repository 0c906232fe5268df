"""Families that transformers has and this package refuses: that they are, and that the reasons given are so."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Gemma4TextConfig, Gemma4TextModel

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.families import open_family

WINDOW, LENGTH = 8, 40


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [("gemma4", "window"), ("gemma4_unified", "window"), ("perception_lm", "timm")],
)
def test_they_are_refused_with_the_reason(model_type, reason, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": ["Own"]}))
    with pytest.raises(RequestError, match=f"not supported.*{reason}") as error:
        open_family(str(tmp_path))
    assert "Supported types" in str(error.value.hint)


@pytest.fixture(scope="module")
def gemma() -> Gemma4TextModel:
    """The LLM of Gemma 4 in small, with three layers of windows and one without."""
    config = Gemma4TextConfig(
        vocab_size=16,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        global_head_dim=8,
        hidden_size_per_layer_input=0,
        sliding_window=WINDOW,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    return Gemma4TextModel(config).eval()


@torch.inference_mode()
def read(gemma: Gemma4TextModel, states: Tensor, positions: Tensor, **masks: Tensor) -> Tensor:
    """What the LLM makes of tokens (L, D) at `positions` (L,): with these masks (L, L), or with its own."""
    given: Any = {name: mask[None, None] for name, mask in masks.items()}
    mask = given or torch.ones(1, len(states))
    return gemma(inputs_embeds=states[None], position_ids=positions[None], attention_mask=mask).last_hidden_state[0]


def test_windows_of_gemma_4_count_the_tokens_that_are_left(gemma):
    """Dropping equals masking only where the window is counted in original positions, which its own masks are not."""
    generator = torch.Generator().manual_seed(0)
    states, positions = torch.randn(LENGTH, 32, generator=generator), torch.arange(LENGTH)
    kept = torch.ones(LENGTH, dtype=torch.bool)
    kept[5:30] = torch.rand(25, generator=generator) < 0.4

    def seen(places: Tensor, keys: Tensor) -> dict[str, Tensor]:
        """What tokens at `places` (n,) may see, with the keys (n,) that are there to be seen, and each itself."""
        back = places[:, None] - places
        full = (back >= 0) & (keys | (back == 0))
        return {"full_attention": full, "sliding_attention": full & (back < WINDOW)}

    everything = torch.ones_like(kept)
    torch.testing.assert_close(
        read(gemma, states, positions, **seen(positions, everything)), read(gemma, states, positions)
    )
    masked = read(gemma, states, positions, **seen(positions, kept))[kept]
    left, places = states[kept], positions[kept]
    by_place = read(gemma, left, places, **seen(places, everything[kept]))
    by_count = read(
        gemma,
        left,
        places,
        **(
            seen(places, everything[kept])
            | {"sliding_attention": seen(torch.arange(len(left)), everything[kept])["sliding_attention"]}
        ),
    )
    own = read(gemma, left, places)
    torch.testing.assert_close(by_place, masked, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own, by_count, rtol=1e-4, atol=1e-4)
    assert (own - masked).abs().max() > 0.1 * masked.abs().max()
