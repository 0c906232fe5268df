"""A headless Chromium, driven over its own pipe (the DevTools protocol): real keys, mouse and touch, no package needed.

`STSIMDIFF_BROWSER` names a Chromium that is not on the path.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome", "chrome")
PROGRAM = os.environ.get("STSIMDIFF_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars")
#: Width and height in CSS pixels, pixels of the screen for each, and whether fingers touch it.
DESKTOP, PHONE = (1200, 900, 1, False), (390, 844, 3, True)
_PATIENCE = 60  # seconds


class Browser:
    """One browser with one page at a time. Its messages are JSON, each ended by a zero byte."""

    def __init__(self) -> None:
        assert PROGRAM is not None
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # The protocol wants the pipes as the descriptors 3 and 4.
        start = f"import os, sys; os.dup2({to_read}, 3); os.dup2({to_write}, 4); os.execv(sys.argv[1], sys.argv[1:])"
        command = [sys.executable, "-S", "-c", start, PROGRAM, *FLAGS]
        self._process = subprocess.Popen(command, pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._count, self._session, self._target = b"", 0, "", ""

    def close(self) -> None:
        """End the browser."""
        self.call("Browser.close")
        self._process.wait(_PATIENCE)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command; what the browser tells in between is dropped."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._count:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], _PATIENCE)
            part = os.read(self._from, 1 << 20) if ready else b""
            assert part, "the browser says nothing"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def open(self, page: Path, device: tuple[int, int, int, bool] = DESKTOP, dark: bool = False, at: str = "") -> None:
        """Load a page on a screen, with all its pictures; `at` is the part of the address after the name."""
        old, self._target = self._target, self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        if old:
            self.call("Target.closeTarget", targetId=old)
        width, height, scale, touch = device
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=touch
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.as_uri() + at)
        end = time.monotonic() + _PATIENCE
        while not self.run('return document.readyState === "complete" && typeof pictures !== "undefined";'):
            assert time.monotonic() < end, "the page does not load"
            time.sleep(0.05)

    def run(self, steps: str) -> Any:
        """What `steps`, the body of an async function, return in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=f"(async () => {{ {steps} }})()", awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def tap(self, x: float, y: float) -> None:
        """A finger's tap at a place on the screen."""
        self.swipe(x, y, 0)

    def swipe(self, x: float, y: float, up: float) -> None:
        """A finger that touches the screen at a place, moves up and leaves."""
        steps = 8 if up else 0
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        for step in range(1, steps + 1):
            points = [{"x": x, "y": y - up * step / steps}]
            self.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=points)
            time.sleep(0.02)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        time.sleep(0.3)  # a click comes after the touch; a page goes on moving

    def move(self, x: float, y: float) -> None:
        """The mouse, moved to a place."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        """A click of the mouse."""
        for event in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """A key, by its name in JavaScript."""
        for event in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=event, key=key, code=key)

    def screenshot(self, path: Path) -> None:
        """The screen as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
