"""What is measured, and what the numbers are called. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds of a run, in the order in which they pass.
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
#: What the answers take that start from the video; no file is written or read.
COLD = ("decode", "encode", "select", "importance", "prefill", "answer")
#: What the answers take that start from the compressed file: compressing is done once, offline.
WARM = ("read", "prefill", "answer")
TOTALS = {
    "cold": "from the video to the last answer: " + " + ".join(COLD),
    "warm": "from the compressed file to the last answer: " + " + ".join(WARM),
}
#: Encoding, compressing and asking are measured one after the other, as the commands run them.
PEAK = "the most of encoding, compressing and asking, each with its part of the model"
#: The method that savings are computed against.
BASELINE = "vanilla"


@dataclass(frozen=True)
class Job:
    """One cell of the table."""

    video: str
    model: str
    frames: int
    method: str  # as on the command line, e.g. st-simdiff:tau_sim=0.8
    importance: str | None  # overrides the method's parameter
    ratio: str
    new_tokens: int  # generated, neither more nor less
    repeats: int
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    questions: int = 1  # on the same video, which is prefilled once
