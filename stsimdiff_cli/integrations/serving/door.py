"""Where a request enters vLLM's server: content parts that name files become those of the engine."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from . import SCHEME

_PATH = "/v1/chat/completions"

Message = dict[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Door:
    """Middleware (ASGI) that writes `{"type": "stsimdiff", "file": ID}` as the engine's own content part.

    It also drops `uuid`, by which a client could give the features of one file the name of another in vLLM's caches.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Pass a request on; those of the chat with their body rewritten."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(_PATH):
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


def rewritten(body: bytes) -> bytes:
    """A request's JSON with the content parts of files as the engine takes them; anything else as it is."""
    try:
        request = json.loads(body)
        contents = [message["content"] for message in request["messages"] if isinstance(message["content"], list)]
    except (ValueError, KeyError, TypeError):
        return body  # vLLM says what is wrong with it
    for part in (part for content in contents for part in content if isinstance(part, dict)):
        part.pop("uuid", None)
        if part.get("type") == SCHEME:
            name = quote(str(part.pop("file", "")), safe="")
            part.update(type="video_url", video_url={"url": f"{SCHEME}:{name}"})
    return json.dumps(request).encode()
