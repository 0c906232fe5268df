"""`stsimdiff serve`: answer questions about compressed files over HTTP, with vLLM."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import RequestError
from . import options, output

if TYPE_CHECKING:
    from ..integrations.serving.library import Library
    from ..models.families.base import Family


def serve(
    files: Annotated[
        list[Path], typer.Argument(help="Compressed files or tokens files, and folders of them.", show_default=False)
    ],
    model: options.Model = None,
    host: Annotated[str, typer.Option(help="Address to listen on. 0.0.0.0 is every network of this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    dtype: Annotated[
        str,
        typer.Option(
            help="Precision: auto (the checkpoint's own), float32, bfloat16 or float16.", rich_help_panel=options.MODEL
        ),
    ] = "auto",
    vllm: Annotated[
        str,
        typer.Option(
            "--vllm",
            metavar="OPTIONS",
            help='More options of vLLM, e.g. --vllm "--max-model-len 32768 --api-key KEY".',
            show_default=False,
        ),
    ] = "",
) -> None:
    """Serve compressed files with vLLM, under OpenAI's API.

    A request of /v1/chat/completions names a file by its id, in a content part
    {"type": "stsimdiff", "file": "talk"}: the file's name without its suffix, or its path below a folder that is
    served. Files that are added to such a folder later are served too. Needs stsimdiff[vllm].
    """
    from ..integrations.serving.engine import arguments, require_template, require_vllm
    from ..integrations.serving.library import Library, Shelf
    from ..integrations.serving.server import require_address, run_server

    library = Library.of(files)
    family = _family_of(library, model)
    given = arguments(family, dtype)
    require_template(family)
    require_vllm()
    shelf = Shelf(library, family)
    for root in library.roots:
        if root.is_file():
            shelf.check(root)
    command = [sys.executable, "-m", "stsimdiff_cli.integrations.serving.api_server", "serve", given.pop("model")]
    command += ["--host", host, "--port", str(port), "--served-model-name", family.checkpoint.id]
    for name, value in given.items():
        command.append(f"--{name.replace('_', '-')}")
        command += [] if value is True else [value if isinstance(value, str) else json.dumps(value)]
    command += ["--middleware", "stsimdiff_cli.integrations.serving.door.Door", *_split(vllm)]
    require_address(host, port)
    place = f"{family.checkpoint.id} at http://{host}:{port}/v1"
    output.note(f"starting vLLM for {place}")
    environment = os.environ | shelf.announcement()
    run_server(command, environment, lambda: output.note(f"vLLM answers for {place}"), output.mode.verbose)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise RequestError(f"--vllm cannot be read: {error}.", "Close its quotes.") from None


def _family_of(library: Library, model: str | None) -> Family:
    """The family of --model, or of the model that made the first file."""
    from ..models.families import open_family
    from ..storage.reading import open_stored

    if model is not None:
        return open_family(model)
    first = next((root for root in library.roots if root.is_file()), None)
    if first is None:
        raise RequestError("A server of folders needs a model.", "Give --model, e.g. the one that made the files.")
    return open_family(open_stored(first).grid.model.id)
