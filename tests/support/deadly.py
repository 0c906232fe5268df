"""A method that ends the process in which it runs, or never ends itself, for videos with a certain name.

    python -m tests.support.deadly SOURCE OUT

compresses with it in this process; the exit code is the number of items that failed before.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stsimdiff_cli.archive.job import Job
from stsimdiff_cli.archive.run import Options, process
from stsimdiff_cli.methods.base import parameter
from stsimdiff_cli.methods.uniform import Uniform
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.video import Sampling


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


if __name__ == "__main__":
    job = Job(Path(sys.argv[2]), sampling=Sampling(4), method=Deadly(), ratio=parse_ratio("0.3"))
    sys.exit(len(process(job, [sys.argv[1]], Options(workers=0)).plan.failed))
