"""A method that ends the process in which it runs, or never ends itself, for videos with a certain name."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stsimdiff_cli.methods.base import parameter
from stsimdiff_cli.methods.uniform import Uniform


@dataclass(frozen=True)
class Deadly(Uniform):
    """As uniform, but for the video `victim` it does `what`: kill, exit or hang. With a `marker`, only once."""

    name: ClassVar[str] = "deadly"
    victim: str = parameter("b.mkv", "name of a video")
    what: str = parameter("kill", "what happens", choices=("kill", "exit", "hang"))
    marker: str = parameter("", "file that says that it has happened")

    def select(self, tokens, ratio, llm, step):
        """Choose ceil(r N) tokens, or do not return."""
        if tokens.grid.source.name == self.victim and not (self.marker and Path(self.marker).exists()):
            if self.marker:
                Path(self.marker).touch()
            if self.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what == "exit":
                os._exit(3)
            time.sleep(1000)
        return super().select(tokens, ratio, llm, step)
