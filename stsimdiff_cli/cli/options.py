"""Options that several commands share, each worded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Option(help="Hub id or folder of a checkpoint. Default: the file's own model; for a video the embedded one."),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a hub checkpoint; the file records the commit.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.", show_default=False)]
Frames = Annotated[
    int | None, typer.Option(min=1, help="Frames, uniform over the clip, first and last included. Default: 32.")
]
Fps = Annotated[float | None, typer.Option(help="Instead of --frames: so many frames per second of video.")]
Start = Annotated[float | None, typer.Option(help="Begin at this second.")]
End = Annotated[float | None, typer.Option(help="End at this second.")]
Decoder = Annotated[str, typer.Option(help="auto, pyav, decord or torchcodec.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[
    str, typer.Option(help="auto (the checkpoint's on a GPU, float32 on a CPU), float32, bfloat16, float16.")
]
Attn = Annotated[str, typer.Option("--attn", help="Attention kernel: auto (sdpa), sdpa, eager, flash_attention_2.")]
Quantize = Annotated[str | None, typer.Option(help="Load the LLM in 4bit or 8bit. Needs stsimdiff[quantize].")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
