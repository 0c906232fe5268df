"""Published implementations that benchmarks/against.py can call: where they are, their inputs and their outputs.

None of their code is here: one file of the user's checkout is loaded and run (with those next to it that it needs).
"""

from __future__ import annotations

import builtins
import math
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.methods.fastvid import FastVID
from stsimdiff_cli.methods.flashvid import FlashVID
from stsimdiff_cli.methods.visionzip import VisionZip
from stsimdiff_cli.ratio import Ratio
from stsimdiff_cli.records import VideoTokens

REAL = sys.stdlib_module_names | {"torch", "numpy", "scipy"}


@dataclass(frozen=True)
class Outcome:
    """The tokens that were kept: flat positions, and the features if they were changed."""

    index: Tensor  # (M,) ascending
    features: Tensor | None = None  # (M, D)


@dataclass(frozen=True)
class Adapter:
    """How to call a published implementation."""

    repository: str
    file: str  # in the checkout
    marks: str  # text in that file that distinguishes it from another project's file of the same name
    ours: str  # as for --method
    setup: Callable[[Any, VideoTokens, Ratio], tuple[Callable[[], Any], Callable[[Any], Outcome]]]
    note: str = ""
    candidates: bool = False  # compare the tokens that enter the LLM in our method, at the requested ratio
    siblings: tuple[str, ...] = ()  # modules next to the file that are loaded too


class _Anything(type):
    """Makes classes with every attribute: each is such a class."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (_Name,), {})


class _Name:
    """What a stand-in for a function returns: as a decorator, it leaves alone what it is given."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, decorated: Any) -> Any:
        return decorated


class StandIn(types.ModuleType):
    """A module in which every name is a class, whose objects can be decorators."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (_Name,), {})


def load(path: Path, siblings: tuple[str, ...] = ()) -> types.ModuleType:
    """Run one file, with stand-ins for everything that it imports except REAL and the files `siblings` next to it."""

    def bring(name: str, names: Any = None, scope: Any = None, wanted: Any = (), level: int = 0) -> Any:
        if level == 0 and name.partition(".")[0] in REAL:
            return __import__(name, names, scope, wanted, level)
        if level == 1 and name in siblings:
            return load(path.with_name(f"{name}.py"), siblings)
        return StandIn(name or "relative")

    module = types.ModuleType(f"published_{path.stem}")
    module.__file__ = str(path)
    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": bring}
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


def locals_of(function: Callable[[], Any], path: str, name: str) -> dict[str, Any]:
    """Call `function`; the local variables that the function `name` in the file `path` had when it returned."""
    variables: dict[str, Any] = {}

    def watch(frame: types.FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_code.co_name == name and frame.f_code.co_filename == path:
            variables.update(frame.f_locals)

    sys.setprofile(watch)
    try:
        function()
    finally:
        sys.setprofile(None)
    return variables


def evs(module: Any, tokens: VideoTokens, ratio: Ratio) -> Any:
    """compute_retention_mask(embeddings (N, D), (T, H, W), 1, q) -> mask (N,)."""
    flat, shape, q = tokens.features.tensor().flatten(0, 2), tokens.grid.shape, float(1 - ratio.exact)
    return (
        lambda: module.compute_retention_mask(flat, shape, 1, q),
        lambda mask: Outcome(mask.nonzero().squeeze(1)),
    )


def vidcom2(module: Any, tokens: VideoTokens, ratio: Ratio) -> Any:
    """vidcom2_compression(features (N, D), ...) -> kept features; the positions are read during a second run."""
    flat, area = tokens.features.tensor().flatten(0, 2), tokens.grid.shape[1] * tokens.grid.shape[2]

    def run() -> Tensor:
        return module.vidcom2_compression(flat, model="qwen2_vl", base_scale=float(ratio), frame_token_len=area)

    def read(_: Tensor) -> Outcome:
        parts = locals_of(run, module.__file__, "vidcom2_compression")["indices"]
        return Outcome(torch.cat([part + t * area for t, part in enumerate(parts)]))

    return run, read


def vispruner(module: Any, tokens: VideoTokens, ratio: Ratio) -> Any:
    """LlavaMetaForCausalLM.encode_images(images) -> features, masks (T, H W); the encoder's output is given."""
    area, features = tokens.grid.shape[1] * tokens.grid.shape[2], tokens.features.tensor().flatten(1, 2)
    attention = tokens.evidence["saliency"].tensor().flatten(1)[:, None]  # (T, 1 head, H W)
    model = types.SimpleNamespace(
        get_vision_tower=lambda: lambda *_, **__: (features, attention), mm_projector=lambda x: x
    )
    number = nearest(area, ratio)
    host = types.SimpleNamespace(
        get_model=lambda: model, get_visual_token_num=lambda: number, get_important_ratio=lambda: 0.5
    )
    return (
        lambda: module.LlavaMetaForCausalLM.encode_images(host, None)[1],
        lambda masks: Outcome(masks.flatten().nonzero().squeeze(1)),
    )


def nearest(area: int, ratio: Ratio) -> int:
    """The number of tokens of a frame nearest to r H W for which VisPruner's code runs; the smaller of two."""
    wanted = ratio.budget(area)
    return next(n for n in sorted(range(2, area + 1), key=lambda n: abs(n - wanted)) if defined(area, n))


def defined(area: int, number: int) -> bool:
    """True if no round has a list of odd length or drops more than half of it, where VisPruner's code fails."""
    left, diverse = area - number // 2, number - number // 2
    while left > diverse:
        drop = min(8, left - diverse)
        if left % 2 or drop > left // 2:
            return False
        left -= drop
    return True


def visionzip(module: Any, tokens: VideoTokens, ratio: Ratio) -> Any:
    """CLIPVisionTower_VisionZip.forward(images) -> [CLS], dominant, contextual; the encoder's output is given.

    The positions of contextual tokens are read during a second run. [CLS] is removed.
    """
    slots, area = tokens.grid.shape[0], tokens.grid.shape[1] * tokens.grid.shape[2]
    number = max(2, ratio.budget(area))
    dominant = VisionZip()._dominants(number)
    features = torch.nn.functional.pad(tokens.features.tensor().flatten(1, 2), (0, 0, 1, 0))  # (T, 1 + H W, D)
    attention = torch.nn.functional.pad(tokens.evidence["saliency"].tensor().flatten(1), (1, 0))[:, None, None]
    keys = torch.nn.functional.pad(tokens.evidence["keys"].tensor().flatten(1, 2), (0, 0, 0, 0, 1, 0))

    def tower(*_: Any, **__: Any) -> Any:
        layer.metric = keys.mean(-2)
        return types.SimpleNamespace(attentions=[attention, None], hidden_states=[features, None])

    layer = types.SimpleNamespace(metric=None)
    tower.vision_model = types.SimpleNamespace(encoder=types.SimpleNamespace(layers=[layer, None]))
    tower._info = {"dominant": dominant, "contextual": number - dominant}
    host = types.SimpleNamespace(vision_tower=tower, device="cpu", dtype=features.dtype)

    def run() -> Tensor:
        return module.CLIPVisionTower_VisionZip.forward(host, features)[0]

    def read(saved: Tensor) -> Outcome:
        variables = locals_of(run, module.__file__, "forward")
        rest, index = variables["mask"], []
        for t in range(slots):
            left = rest[t].nonzero().squeeze(1)
            chosen = (~rest[t]).nonzero().squeeze(1)[1:]  # without [CLS]
            index.append(torch.cat([chosen, left[variables["target_indices"]]]) - 1 + t * area)
        order = torch.cat(index).sort()
        return Outcome(order.values, saved[:, 1:].flatten(0, 1)[order.indices])

    return run, read


def fusion(module: Any, tokens: VideoTokens, ratio: Ratio) -> Any:
    """FrameFusion.forward(hidden (1, N, D), positions, mask) before layer 0."""
    merger = module.FrameFusion(cost=float(ratio), similarity_lower_bound=0.6, ratio_lower_bound=0.1)
    return before_layer_0(merger, tokens)


def st_simdiff(module: Any, tokens: VideoTokens, ratio: Ratio) -> Any:
    """SimDiff.forward before layer 0, as its README calls it; the prune by attention that follows is not run."""
    merger = module.SimDiff(float(ratio), 0.8, 0.1, strategy=3)
    return before_layer_0(merger, tokens, height=tokens.grid.shape[1], width=tokens.grid.shape[2])


def before_layer_0(merger: Any, tokens: VideoTokens, **size: int) -> Any:
    """Call a module that reduces hidden states and position embeddings (here: the numbers 0 to N - 1) alike."""
    (slots, rows, columns), count = tokens.grid.shape, tokens.grid.tokens
    place = torch.arange(count)[None, :, None]
    patch = torch.arange(rows * columns).repeat(slots)[None]
    fresh: list[Tensor] = []  # it works in place: `setup` is called before every run

    def run() -> Any:
        merger.prepare(patch, rows * columns, 0, count - 1, count, count, **size)
        return merger(fresh.pop(), [place, place], None)

    fresh.append(tokens.features.tensor().flatten(0, 2)[None].clone())
    return run, lambda out: Outcome(out[1][0].flatten(), out[0][0])


def flashvid(module: Any, tokens: VideoTokens, ratio: Ratio) -> Any:
    """flashvid_compression(features (T, n, D), attention (T, n), settings) -> features, positions (N,), ascending."""
    features = tokens.features.tensor().flatten(1, 2).clone()  # it works in place: `setup` is called before every run
    attention = tokens.evidence["saliency"].tensor().flatten(1)
    defaults = FlashVID()
    settings = types.SimpleNamespace(
        retention_ratio=float(ratio),
        expansion=1,
        alpha=defaults.alpha,
        token_selection_method="attn_div_v2",
        temporal_threshold=defaults.threshold,
        do_segment=True,
        segment_threshold=defaults.cut,
        min_segment_num=defaults.segments,
        complementary_segment=True,
    )

    def read(out: tuple[Tensor, Tensor]) -> Outcome:
        saved, index = out
        first = torch.cat([torch.ones(1, dtype=torch.bool), index[1:] > index[:-1]])
        return Outcome(index[first], saved[first])

    return lambda: module.flashvid_compression(features, attention, settings), read


def fastvid(module: Any, tokens: VideoTokens, ratio: Ratio) -> Any:
    """Qwen2Model.forward(embeddings (1, N, D)), whose only layer gets what is left, with its positions."""
    (slots, rows, columns), count = tokens.grid.shape, tokens.grid.tokens
    area, hidden, features = rows * columns, tokens.features.tensor().flatten(0, 2)[None], tokens.features.tensor()
    defaults, place = FastVID(), torch.zeros(1, count, 1)
    number = fitting(area, ratio)
    seen: list[Tensor] = []

    def layer(states: Tensor, position_ids: Tensor, **_: Any) -> tuple[Tensor]:
        seen[:] = position_ids
        return (states,)

    host = types.SimpleNamespace(
        gradient_checkpointing=False,
        _update_causal_mask=lambda *_: None,
        rotary_emb=lambda *_: (place, place),
        layers=[layer],
        norm=lambda states: states,
        video_start_idx=0,
        video_token_len=count,
        frame_num=slots,
        frame_attn_weights=tokens.evidence["saliency"].tensor(),
        frame_global_features=torch.stack([slot.double().mean((0, 1)) for slot in features]),
        fastvid_retention_ratio=(number + 0.5) / area,
        fastvid_DySeg_c=defaults.segments,
        fastvid_DySeg_tau=defaults.cut,
        fastvid_STPrune_d=defaults.context,
        fastvid_DTM_p=defaults.every,
        fastvid_DTM_beta=defaults.beta,
    )
    switches = {"use_cache": False, "output_attentions": False, "output_hidden_states": False, "return_dict": False}
    switches["past_key_values"] = None
    return (
        lambda: module.Qwen2Model.forward(host, inputs_embeds=hidden, **switches)[0],
        lambda states: Outcome(seen[0], states[0]),
    )


def fitting(area: int, ratio: Ratio) -> int:
    """The largest number of tokens of a frame, at most r H W, for which FastVID's code runs: its anchors have places.

    Of every four slots of a segment one has all anchors. RequestError if each frame would have none.
    """
    wanted = math.floor(ratio.exact * area)
    for number in range(wanted, 2, -1):
        anchors = int(number * FastVID().context)
        if number + (FastVID().every - 1) * anchors <= area:
            return number
    raise RequestError(f"FastVID's code needs three tokens a frame, got {wanted}.", "Give a higher ratio")


#: Published methods: where they are, the name of ours, and how to call theirs.
ADAPTERS = {
    "evs": Adapter("vllm-project/vllm", "vllm/multimodal/evs.py", "def compute_retention_mask", "evs", evs),
    "vidcom2": Adapter(
        "xuyang-liu16/VidCom2",
        "token_compressor/vidcom2/vidcom2.py",
        "def vidcom2_compression",
        "vidcom2",
        vidcom2,
        "theirs rounds the share of every frame by itself",
    ),
    "vispruner": Adapter(
        "Theia-4869/VisPruner",
        "llava/model/llava_arch.py",
        "get_visual_token_num",
        "vispruner",
        vispruner,
        "the same number in every frame, the nearest for which theirs does not fail",
    ),
    "visionzip": Adapter(
        "dvlab-research/VisionZip",
        "visionzip/clip_encoder.py",
        "class CLIPVisionTower_VisionZip",
        "visionzip",
        visionzip,
        "the same number in every frame; theirs also keeps [CLS], which is not counted",
    ),
    "framefusion": Adapter(
        "thu-nics/FrameFusion",
        "framefusion/main.py",
        "class FrameFusion",
        "framefusion",
        fusion,
        "one merge, before layer 0: of all pairs that are alike, or as many as the budget asks for",
    ),
    "st-simdiff": Adapter(
        "bingjunluo/ST-SimDiff",
        "simdiff/new_topk.py",
        "class SimDiff",
        "st-simdiff:max_community=none",
        st_simdiff,
        "what is left for the prune by attention: graph, communities, centrality and events; theirs takes communities "
        "in the order of their centrality and stops at the first that would drop too much, ours keeps a share of each",
        candidates=True,
    ),
    "flashvid": Adapter(
        "Fanziyang-v/FlashVID",
        "flashvid/utils.py",
        "def flashvid_compression",
        "flashvid:aggregate=published",
        flashvid,
        "what enters the LLM, r of it (expansion 1); theirs rounds every frame up, adds noise to densities, and keeps "
        "some positions twice, which are counted once",
        siblings=("token_selection",),
    ),
    "fastvid": Adapter(
        "LunarShen/FastVID",
        "fastvid_llavaonevision/LLaVA-NeXT/llava/model/language_model/modeling_qwen2.py",
        "fastvid_retention_ratio",
        "fastvid",
        fastvid,
        "the same number in every frame, the largest for which theirs does not fail; theirs adds noise to densities",
    ),
}
