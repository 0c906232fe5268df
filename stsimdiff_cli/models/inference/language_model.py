"""The LLM of a checkpoint: visual tokens enter it, importance and answers come out."""

from __future__ import annotations

import contextlib
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from ...errors import RequestError
from ...layer_pruning import LayerPruner
from ...records import Embeddings, Prompt, TokenGrid
from ..families.base import SLIDING, Family
from ..loading.damage import running
from ..loading.runtime import ResolvedRuntime
from ..loading.weights import load_language
from .attention_tap import TAPPED_EAGER, TAPPED_SDPA, EnoughAttention, allow_taps, attach_tap, last_query_attention
from .finite import require_finite
from .layer_loop import check_layers, run_layers
from .masks import pieces, together, within
from .prompts import Prompter
from .rules import prepare_rules

#: Prompt tokens that run through the LLM at once. More are hardly faster, and their activations take memory.
PIECE = 2048
#: Attention implementations that take masks of any form: those that take what is seen, and those that add the mask.
_BOOLEAN, _ADDED = ("sdpa", TAPPED_SDPA), ("eager", TAPPED_EAGER)
_FULL = "full_attention"


class LanguageModel:
    """The LLM of a checkpoint without its vision tower, loaded."""

    def __init__(
        self, family: Family, runtime: ResolvedRuntime, layers: int | None = None, attention_rows: bool = False
    ) -> None:
        """Load it; with `layers`, only its first layers and no LM head; with `attention_rows`, to read attention.

        RequestError for an attention implementation with which the family cannot run.
        """
        runtime = allow_taps(runtime) if attention_rows else runtime
        if not family.causal and runtime.attention not in (*_BOOLEAN, *_ADDED):
            raise RequestError(
                f"Tokens of {family.checkpoint.id} do not see just those before them, and --attn {runtime.attention} "
                "has no masks for that.",
                "Leave out --attn, or use --attn sdpa or eager.",
            )
        self.family = family
        self.device = runtime.device
        self.prompter = Prompter(family)
        self.model: Any = load_language(family, runtime, layers)
        #: Rules by the prompt's length, max_new_tokens and temperature: preparing them takes as long as a few tokens.
        #: Whoever changes the model's generation_config after that clears them (`rules.cache_clear`).
        self.rules = lru_cache(256)(partial(prepare_rules, self.model, family))

    def inputs(self, prompt: Prompt, tokens: Embeddings, begin: int = 0) -> dict[str, Any]:
        """Model inputs of a prompt from token `begin` on, batch size 1, without deepstack features.

        `tokens` are the M visual tokens from there on; what is before is in the cache.
        """
        piece = prompt[begin:]
        ids, visual = piece.ids.to(self.device), piece.visual.to(self.device)
        embed = self.model.get_input_embeddings()
        embeddings = embed(ids.masked_fill(ids == self.family.placeholder, 0))  # (L, D)
        embeddings[visual >= 0] = tokens.features.to(self.device, embeddings.dtype)
        self.family.embed_special(self.model, embeddings, ids, visual)
        return {
            "inputs_embeds": embeddings[None],
            "position_ids": self.position_ids(piece),
            "attention_mask": self._prompt_mask(prompt, begin),
        }

    def position_ids(self, prompt: Prompt) -> Tensor:
        """Position ids as models take them: (1, L), or (R, 1, L)."""
        positions = prompt.positions.to(self.device)
        return positions if len(positions) == 1 else positions[:, None]

    def decoder_inputs(self, prompt: Prompt, tokens: Embeddings, begin: int = 0) -> dict[str, Any]:
        """The same for the decoder, with what else the family's LLM takes."""
        piece = prompt[begin:]
        ids, visual = piece.ids.to(self.device), piece.visual.to(self.device)
        inputs = {**self.inputs(prompt, tokens, begin), **self.family.decoder_kwargs(self.model, ids, visual)}
        if tokens.deepstack is None:
            return inputs
        return {**inputs, **self.family.deepstack_kwargs(visual >= 0, tokens.deepstack.to(self.device))}

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, tokens: Embeddings, cache: Cache) -> None:
        """Run a prompt with M visual tokens, or the beginning of one, through the decoder and into an empty cache.

        Piece by piece, so that memory holds the cache and the activations of one piece, however long the prompt is.
        Tokens that see each other are in one piece.
        """
        decoder, done = self.model.get_decoder(), 0
        for begin, end in pieces(self.family.mutual(prompt.ids), PIECE, masks=not self.family.causal):
            count = int((prompt.visual[begin:end] >= 0).sum())
            inputs = self.decoder_inputs(prompt[:end], tokens[slice(done, done + count)], begin)
            decoder(**inputs, past_key_values=cache, use_cache=True)
            done += count

    def _running(self) -> contextlib.AbstractContextManager[None]:
        """Within it, an LLM that cannot be run is a ModelError."""
        return running(self.family.checkpoint.id, self.family.checkpoint.embedded)

    @property
    def _attention(self) -> str:
        return str(self.model.config.get_text_config()._attn_implementation)

    @property
    def takes_masks(self) -> bool:
        """Whether the attention takes masks of any form, so that questions can branch off one sequence."""
        types = set(getattr(self.model.config.get_text_config(), "layer_types", None) or [_FULL])
        known = {_FULL} if self.family.window is None else {_FULL, SLIDING}
        return types <= known and self._attention in (*_BOOLEAN, *_ADDED)

    def masks(self, seen: Tensor, positions: Tensor, groups: Tensor | None = None) -> Any:
        """What the model takes as its mask: one (1, 1, Q, K), or one for each type of layer if some have windows.

        `seen` (Q, K) is what the last Q of K tokens attend to by themselves, `positions` (K,) where they stand, and
        `groups` (K,) as in `Family.mutual`, if some of the Q have one.
        """
        grouped = seen if groups is None else together(seen, groups)
        if self.family.window is None:
            return self._mask(grouped)
        return {_FULL: self._mask(seen), SLIDING: self._mask(within(grouped, positions, self.family.window))}

    def _mask(self, seen: Tensor) -> Tensor:
        """A mask (1, 1, Q, K) from what is attended to, as the attention takes it."""
        seen = seen[None, None]
        if self._attention in _BOOLEAN:
            return seen
        lowest = torch.finfo(self.model.dtype).min
        return torch.zeros_like(seen, dtype=self.model.dtype).masked_fill(~seen, lowest)

    def _prompt_mask(self, prompt: Prompt, begin: int) -> Any:
        """The mask of a prompt's tokens from `begin` on; those before are in the cache.

        Where transformers makes the masks, it says that this is one sequence; otherwise gaps in the positions would be
        read as several.
        """
        length = len(prompt.ids)
        if self.family.causal:
            return torch.ones(1, length, dtype=torch.int64, device=self.device)
        seen = torch.ones(length - begin, length, dtype=torch.bool, device=self.device).tril(begin)
        return self.masks(seen, prompt.positions[0].to(self.device), self.family.mutual(prompt.ids).to(self.device))

    def new_cache(self) -> DynamicCache:
        """An empty cache. It keeps all tokens even in layers with windows: one that drops some cannot be put back."""
        windows = self.family.window is not None
        return DynamicCache() if windows else DynamicCache(config=self.model.config.get_text_config())

    @torch.inference_mode()
    def importance(self, grid: TokenGrid, tokens: Embeddings, index: Tensor, prompt: str, layer: int) -> Tensor:
        """Attention from the last prompt token to each of the tokens `index`, mean over heads (section 4.5): (C,).

        `tokens` are those C tokens; only they and the prompt enter the LLM, which runs up to `layer`.
        """
        sequence = self.prompter.prompt(self.model, grid, prompt, index)
        rows: list[Tensor] = []

        def stop(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
            if key.shape[2] < len(sequence.ids):  # not the last piece of the prompt
                return
            rows.append(last_query_attention(query, key, mask, scaling))
            raise EnoughAttention

        attention = self.model.get_decoder().layers[layer].self_attn
        with self._running(), attach_tap(attention, stop), contextlib.suppress(EnoughAttention):
            self.prefill(sequence, tokens, self.new_cache())
        weights = rows[0][(sequence.visual >= 0).to(self.device)]
        return require_finite(weights, "The attention weights", self.family.checkpoint, self.model.dtype)

    @torch.inference_mode()
    def prune(
        self,
        grid: TokenGrid,
        tokens: Embeddings,
        question: str,
        pruner: LayerPruner,
        cache: Cache | None = None,
    ) -> Prompt:
        """Read all N tokens and a question, pruning where `pruner` says; returns the whole prompt.

        With a cache, the run goes through all layers and fills it; without one, it ends when the pruner is finished.
        ModelError for an LLM in which tokens cannot be pruned.
        """
        text = self.model.get_decoder()
        check_layers(text, self.family.causal)
        prompt = self.prompter.prompt(self.model, grid, question, torch.arange(grid.tokens))
        inputs = self.inputs(prompt, tokens)
        rotary = text.rotary_emb(inputs["inputs_embeds"], self.family.rotary_positions(inputs["position_ids"]))
        visual = (prompt.visual >= 0).to(self.device)
        deep = None if tokens.deepstack is None else tokens.deepstack.to(self.device)
        with self._running():
            hidden = run_layers(text, inputs["inputs_embeds"], rotary, visual, pruner, cache, deep)
        require_finite(hidden, "The hidden states", self.family.checkpoint, self.model.dtype)
        return prompt
