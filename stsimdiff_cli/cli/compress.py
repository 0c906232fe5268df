"""`stsimdiff compress`: a tokens file becomes a compressed file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import common, options, output

COUNTS = ("tokens", "kept", "candidates", "representatives", "events", "communities", "largest_community")


def compress(
    file: Annotated[Path, typer.Argument(help="A tokens file, or a video (encoded first).", show_default=False)],
    output_file: options.Output,
    ratio: Annotated[str, typer.Option(help="Fraction of tokens to keep, e.g. 0.3: exactly ceil(r N) stay.")],
    method: Annotated[str, typer.Option(help="Method, e.g. st-simdiff:tau_sim=0.8,tau_diff=p95")] = "st-simdiff",
    importance: Annotated[str | None, typer.Option(help="What ranks candidates: llm, saliency, centrality.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Question for importance llm. Default: a general one.")] = None,
    model: options.Model = None,
    frames: options.Frames = None,
    fps: options.Fps = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    attn: options.Attn = "auto",
    quantize: options.Quantize = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Keep the tokens that carry the story: exactly ceil(r N) of them."""
    from ..errors import RequestError
    from ..methods.spec import parse_method
    from ..ratio import parse_ratio
    from ..storage.atomic import check_output
    from ..storage.writing import save_compressed
    from ..timing import Stopwatch, selection_seconds

    exact = parse_ratio(ratio)
    chosen = parse_method(method, **({} if importance is None else {"importance": importance}))
    check_output(output_file, force)
    from .. import pipeline
    from ..models.loading.runtime import Runtime
    from ..records import VideoTokens

    runtime = Runtime(device, dtype, attn, quantize)
    runtime.check()  # before a video is encoded
    context = pipeline.Context(timer=Stopwatch(device))
    timer = context.timing(runtime)
    timer.step("read")
    evidence = sorted(chosen.evidence)
    tokens = common.open_input(file, model, frames, fps, runtime, context, stay=True, evidence=evidence)
    if not isinstance(tokens, VideoTokens):
        raise RequestError(f"{file} is compressed already.", "Give the tokens file or the video.")
    video = pipeline.compress_tokens(tokens, exact, chosen, runtime, prompt=prompt, model=model, context=context)
    with timer.during("write"):
        written = save_compressed(output_file, video)
    if chosen.keeps_all and exact != 1:
        output.note(f"{chosen.name} keeps every token; the ratio {ratio} does not apply.")
    counts = video.counts
    if json:
        output.result_json(
            {
                "output": str(output_file),
                "method": video.method["name"],
                "parameters": video.method["parameters"],
                "ratio": float(ratio) if not chosen.keeps_all else 1.0,
                "prompt": video.method["prompt"],
                **dict.fromkeys(COUNTS),
                **counts,
                "seconds": {**timer.seconds, "total": timer.total()},
                "core_seconds": selection_seconds(timer.seconds),
                "bytes": written,
            }
        )
        return
    detail = "".join(
        f", {counts[name]} {name}" for name in ("representatives", "events", "communities") if name in counts
    )
    output.result(
        f"{output_file}: kept {counts['kept']} of {counts['tokens']} tokens{detail}, "
        f"{output.size(written)}, {timer.total():.1f} s"
    )
