"""Options that several commands share, each worded once, and the panels that group options in a help text."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import RequestError
from . import completion, output

if TYPE_CHECKING:
    from ..records import FrameSize
    from ..storage.stores import AnyPath

#: Panels of the help texts, in the order in which they appear.
FRAMES, METHOD, MODEL, ANSWERS, OUTPUT, MANY = "Frames", "Method", "Model", "Answers", "Output", "Many videos"


def named(model: str | None) -> str | None:
    """RequestError for an empty name, which nobody means: it is what an unset variable of a shell script becomes."""
    if model is not None and not model.strip():
        raise RequestError("--model is empty.", "Name a checkpoint, or leave out --model.")
    return model


def frame_size(min_pixels: int | None, max_pixels: str | None) -> FrameSize | None:
    """What --min-pixels and --max-pixels say; None if neither is given. RequestError for what makes no sense."""
    if min_pixels is None and max_pixels is None:
        return None
    from ..video.sampling import parse_frame_size

    return parse_frame_size(min_pixels, max_pixels)


def new_file(text: str | Path) -> Path:
    """The name of a file to write, as typed. RequestError for what cannot name a file."""
    if str(text) == "-":
        raise RequestError(
            "- does not name a file, and a file is what is written.", "Give a file name; ./- is one as well."
        )
    if not str(text):
        raise RequestError("The name of an output is empty.", "Give a file name.")
    if str(text).endswith(tuple(filter(None, (os.sep, os.altsep)))):
        raise RequestError(f"{text} is the name of a folder.", "Give a file name.")
    return Path(text)


def growing_folder(text: str) -> Path:
    """The name of a folder of segments to write. RequestError for what cannot name one."""
    if not text or text == "-" or text.endswith(".safetensors"):
        raise RequestError("Segments are written to a folder, and -o does not name one.", "Give e.g. -o tape/")
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise RequestError(f"{text} is not a folder.", "Name a folder for the segments, e.g. -o tape/")
    return path


def new_folder(text: str) -> AnyPath:
    """The name of a folder to write to. RequestError for what cannot name a folder."""
    if not text or text == "-":
        raise RequestError("Many videos are written to a folder, and -o does not name one.", "Give e.g. -o kept/")
    from ..storage.stores import any_path

    return any_path(text)


Frames = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of frames, evenly spaced from the first to the last. Default: 32.", rich_help_panel=FRAMES
    ),
]
Fps = Annotated[
    float | None, typer.Option(help="Frames per second of video, instead of --frames.", rich_help_panel=FRAMES)
]
ImageFps = Annotated[
    float | None,
    typer.Option(
        help="Images per second, where the video is a folder or a list of images. Default: 1.",
        show_default=False,
        rich_help_panel=FRAMES,
    ),
]
Start = Annotated[float | None, typer.Option(help="Start of the part to use, in seconds.", rich_help_panel=FRAMES)]
End = Annotated[float | None, typer.Option(help="End of the part to use, in seconds.", rich_help_panel=FRAMES)]
Decoder = Annotated[
    str,
    typer.Option(
        autocompletion=completion.one_of(completion.DECODERS),
        help="Video decoder: auto (pyav), pyav, decord or torchcodec.",
        rich_help_panel=FRAMES,
    ),
]
DecodeWorkers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Workers that decode parts of the video at the same time. Default: one for each core but one.",
        show_default=False,
        rich_help_panel=FRAMES,
    ),
]
MinPixels = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Least pixels of a frame, for models of native resolution. Default: as the model's authors have it.",
        show_default=False,
        rich_help_panel=FRAMES,
    ),
]
MaxPixels = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS",
        help="Most pixels of a frame, for models of native resolution, within what the model's authors allow; or "
        "processor, for both bounds of the checkpoint's file. Default: as the model's authors have it.",
        show_default=False,
        rich_help_panel=FRAMES,
    ),
]
Ratios = Annotated[str, typer.Option(help="Fractions of tokens to keep, separated by commas.", rich_help_panel=METHOD)]
Importance = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.one_of(completion.IMPORTANCE),
        help="What ranks the candidates of st-simdiff: llm (the default), saliency or centrality.",
        rich_help_panel=METHOD,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.model,
        help="Hub id or local folder of a checkpoint. Default: the model that made the file; for a video, the "
        "embedded model.",
        rich_help_panel=MODEL,
        callback=named,
    ),
]
VideoModel = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.model,
        help="Hub id or local folder of a checkpoint. Default: the embedded model tiny.",
        rich_help_panel=MODEL,
        callback=named,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        help="Branch, tag or commit of a Hub checkpoint. The output records the exact commit.", rich_help_panel=MODEL
    ),
]
Device = Annotated[
    str,
    typer.Option(
        autocompletion=completion.one_of(completion.DEVICES),
        help="Where the model runs: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.",
        rich_help_panel=MODEL,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        autocompletion=completion.one_of(completion.DTYPES),
        help="Precision: auto, float32, bfloat16 or float16. auto is float32 on a CPU and the checkpoint's own "
        "on a GPU.",
        rich_help_panel=MODEL,
    ),
]
Store = Annotated[
    str,
    typer.Option(
        autocompletion=completion.one_of(completion.STORES),
        help="Form of the stored features: auto (as they come), float32, bfloat16, float16, int8, int4 or int3.",
        rich_help_panel=OUTPUT,
    ),
]
Attn = Annotated[
    str,
    typer.Option(
        "--attn",
        autocompletion=completion.one_of(completion.ATTENTION),
        help="Attention implementation: auto (sdpa), sdpa, eager, flash_attention_2 or flash_attention_3.",
        rich_help_panel=MODEL,
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.one_of(completion.QUANTIZE),
        help="Load the LLM with 4bit or 8bit weights. Needs stsimdiff[quantize].",
        rich_help_panel=MODEL,
    ),
]
MaxNewTokens = Annotated[
    int, typer.Option(min=1, help="Maximum length of an answer, in tokens.", rich_help_panel=ANSWERS)
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", parser=new_file, metavar="PATH", help="File to write.", show_default=False,
        rich_help_panel=OUTPUT,
    ),
]  # fmt: skip
Outputs = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="PATH", help="File to write; for many videos, the folder.", show_default=False,
        rich_help_panel=OUTPUT,
    ),
]  # fmt: skip
Executor = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.one_of(completion.EXECUTORS),
        help="Where the workers are: local (this machine, the default), or ray (the nodes of a Ray cluster). ray needs "
        "stsimdiff[ray].",
        show_default=False,
        rich_help_panel=MANY,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes with a model. Default: one a GPU; without a GPU, one a core, as far as memory allows. 0: this "
        "process alone.",
        show_default=False,
        rich_help_panel=MANY,
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(help="Devices of the workers, e.g. cuda:0,cuda:1. Default: all GPUs, or --device.",
                 rich_help_panel=MANY),
]  # fmt: skip
Decoders = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that decode ahead of each worker. Default: the cores shared out with GPUs, else 0 (the worker "
        "decodes).",
        show_default=False,
        rich_help_panel=MANY,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        help="Do only part i of n, e.g. 0/4, on each of n machines. Default: the task of a SLURM array, or all.",
        rich_help_panel=MANY,
    ),
]
Attempts = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Attempts at an item after memory ran out, a device failed, a process was killed or time was up. "
        "Default: 2.",
        show_default=False,
        rich_help_panel=MANY,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        help="Longest time for a video, in multiples of its duration; at least ten minutes. Default: 10.",
        show_default=False,
        rich_help_panel=MANY,
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="Try again what failed for good in an earlier run.", rich_help_panel=MANY),
]
Checksum = Annotated[
    bool,
    typer.Option(
        "--checksum",
        help="Tell items apart by their content (SHA-256), not by path, size and time.",
        rich_help_panel=MANY,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output if it exists.", rich_help_panel=OUTPUT)]
ForceMany = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Overwrite the output if it exists; in a folder, replace files made with other settings.",
        rich_help_panel=OUTPUT,
    ),
]
Append = Annotated[
    bool,
    typer.Option(
        "--append",
        help="Write a folder of segments, and add to it what is new since the last time.",
        rich_help_panel=OUTPUT,
    ),
]


def _json(given: bool) -> bool:
    """Whether JSON is wanted: --json may stand before the command as well."""
    return given or output.mode.json


Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object instead of text; notes, warnings and errors are JSON on stderr.",
        callback=_json,
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Print the result, warnings and errors only: no notes, no progress.",
        rich_help_panel=OUTPUT,
    ),
]  # fmt: skip
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Print also what each step did, and its seconds.", rich_help_panel=OUTPUT),
]


def with_common(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options that every command has, which it need not know of."""

    @functools.wraps(command)
    def run(*, quiet: bool, verbose: bool, **arguments: Any) -> None:
        output.talk(quiet, verbose)
        command(**arguments)

    signature = inspect.signature(command, eval_str=True)
    added = {"quiet": Quiet, "verbose": Verbose}
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in added.items()
    ]
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *common])  # type: ignore[attr-defined]
    run.__annotations__ = command.__annotations__ | added
    return run
