"""What vLLM's server asks for the media of a request."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from vllm.exceptions import VLLMNotFoundError, VLLMValidationError

from ...errors import StsimdiffError
from . import SCHEME
from .library import Shelf, UnknownIdError
from .prompts import VideoSpan

_shelf = lru_cache(1)(Shelf.from_environment)


class Connector:
    """Opens files of the library, and nothing else."""

    async def fetch_video_async(self, address: str, **_: Any) -> VideoSpan:
        """The span of `stsimdiff:ID`. VLLMNotFoundError and VLLMValidationError reach this client alone."""
        return await asyncio.to_thread(self.fetch_video, address)

    def fetch_video(self, video_url: str, **more: Any) -> VideoSpan:  # noqa: ARG002
        """The same, at once."""
        scheme, _, name = video_url.partition(":")
        if scheme != SCHEME:
            raise VLLMValidationError(f"Only addresses like {SCHEME}:ID are read.", parameter="video_url")
        try:
            return _shelf().span(unquote(name))
        except UnknownIdError as error:
            raise VLLMNotFoundError(str(error)) from None
        except StsimdiffError as error:
            raise VLLMValidationError(" ".join(filter(None, [str(error), error.hint])), parameter="file") from None
