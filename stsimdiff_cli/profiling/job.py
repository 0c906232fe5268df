"""One measurement, and what its numbers are called."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ..models.loading.runtime import Runtime
from ..records import FrameSize

#: The stages of a run, in order of time; all are measured in seconds.
STAGES = {
    "decode": "scanning the file and decoding the chosen frames",
    "encode": "frames to tokens: preprocessing, vision encoder, projector",
    "select": "all that a method does on the tokens, without the LLM: graph, communities, centrality, ...",
    "importance": "attention of the candidates in the first layers of the LLM",
    "read": "the compressed file, read and checked (from the system's cache)",
    "prefill": "the video's tokens through the LLM, once",
    "answer": "the questions, one after the other: the prefill of each and all generated tokens",
    "token": "one generated token after the first",
}
#: The stages of answers that start from the video; no file is written or read.
COLD = ("decode", "encode", "select", "importance", "prefill", "answer")
#: The stages of answers that start from the compressed file; compression is done once, offline.
WARM = ("read", "prefill", "answer")
TOTALS = {
    "cold": "from the video to the last answer: " + " + ".join(COLD),
    "warm": "from the compressed file to the last answer: " + " + ".join(WARM),
}
#: What "peak" means: the three commands are measured one after the other.
PEAK = "the most of encoding, compressing and asking, each with its part of the model"
#: The method that savings are computed against.
BASELINE = "vanilla"
_RUNTIME, _SIZE = (frozenset(field.name for field in fields(part)) for part in (Runtime, FrameSize))


@dataclass(frozen=True)
class Job:
    """One cell of the table: what to measure."""

    video: str
    model: str
    frames: int
    method: str  # as on the command line, e.g. st-simdiff:tau_sim=0.8
    importance: str | None  # overrides the parameter of methods that have it
    ratio: str
    new_tokens: int  # generated for each question, neither more nor fewer
    repeats: int
    runtime: Runtime = Runtime()
    questions: int = 1  # about the same video, which is prefilled once
    workers: int | None = None  # that decode the video
    trace: bool = False  # whether one more run is made, of which every span is recorded
    size: FrameSize = FrameSize()

    def to_json(self) -> dict[str, Any]:
        """The job as one flat JSON object, without what is not set of `quantize`, `workers`, `trace` and bounds."""
        job = asdict(self)
        runtime = job.pop("runtime")
        del job["size"]
        job |= runtime | self.size.stated
        return {name: value for name, value in job.items() if value or name not in ("quantize", "workers", "trace")}

    @classmethod
    def from_json(cls, job: dict[str, Any]) -> Job:
        """The job that `to_json` wrote."""
        rest = {name: value for name, value in job.items() if name not in _RUNTIME | _SIZE}
        runtime, size = ({name: job[name] for name in part if name in job} for part in (_RUNTIME, _SIZE))
        return cls(**rest, runtime=Runtime(**runtime), size=FrameSize(**size))
