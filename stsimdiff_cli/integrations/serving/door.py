"""Where a request enters vLLM's server: content parts that name files become those of the engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from . import SCHEME
from .log import READY

Message = dict[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Door:
    """Middleware (ASGI) that writes `{"type": "stsimdiff", "file": ID}` as the engine's own content part.

    It also drops `uuid`, by which a client could give the features of one file the name of another in vLLM's caches,
    and says when the server answers.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Pass a request on; one with JSON has its body rewritten, whichever of vLLM's addresses it is for."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, _announcing(send))
            return
        if scope["type"] != "http" or b"json" not in dict(scope["headers"]).get(b"content-type", b""):
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":  # the client left
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        body = rewritten(body)
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-length"]
        scope = {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}
        parts = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def given() -> Message:
            return next(parts, None) or await receive()

        await self.app(scope, given, send)


def _announcing(send: Any) -> Any:
    """`send`, which also writes READY to stderr once the server has started."""

    async def announced(message: Message) -> None:
        await send(message)
        if message["type"] == "lifespan.startup.complete":
            sys.stderr.write(f"{READY}\n")  # server.py reads it
            sys.stderr.flush()

    return announced


def rewritten(body: bytes) -> bytes:
    """A request's JSON with the content parts of files as the engine takes them; anything else as it is."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return body  # vLLM says what is wrong with it
    parts = [part for message in _dicts(request, "messages") for part in _dicts(message, "content")]
    for part in parts:
        part.pop("uuid", None)
        if part.get("type") == SCHEME:
            name = quote(str(part.pop("file", "")), safe="")
            part.update(type="video_url", video_url={"url": f"{SCHEME}:{name}"})
    return json.dumps(request).encode() if parts else body


def _dicts(holder: Any, name: str) -> list[dict[str, Any]]:
    """The objects in a list that an object may hold."""
    entries = holder.get(name) if isinstance(holder, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
