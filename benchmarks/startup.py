"""What the time to the first answer of the embedded model is made of: CPU seconds of whole processes.

    python benchmarks/startup.py [--repeats 5] [--output FILE]

Each process does what the one before it does and one thing more: Python itself, torch, transformers' base class of all
models, the class of the embedded model, how the program keeps Python from looking for cycles among what stays, then the
command on a compressed file and on a video. A round runs each once, in turn. CPU time, because it hardly depends on
what else the machine does; imports are read from the system's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pace import STARTUP

from stsimdiff_cli.__main__ import CYCLES
from stsimdiff_cli.machine import describe

CLIP = Path(__file__).parents[1] / "sample_videos" / "flash.mp4"
QUESTION = "What appears for a moment?"
WANTED = """from stsimdiff_cli import pipeline
from stsimdiff_cli.models.inference import conversation, vision_encoder
from transformers import Qwen2_5_VLForConditionalGeneration
"""
IMPORTS = {
    "Python": "pass",
    "import torch": "import torch",
    "import transformers.modeling_utils": "import transformers.modeling_utils",
    "import of the model's class": "from transformers import Qwen2_5_VLForConditionalGeneration",
    "import of what ask imports": WANTED,
    "the same, seldom looking for cycles": f"import gc\ngc.set_threshold(*{CYCLES})\n{WANTED}gc.freeze()",
}


def cpu_seconds(command: list[str]) -> float:
    """User and system time of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{seconds:6.2f} s  {' '.join(command[1:4])[:90]}", file=sys.stderr, flush=True)
    return seconds


def commands(folder: Path) -> dict[str, list[str]]:
    """The processes by what they do; a compressed file is made for the last but one."""
    program = [sys.executable, "-m", "stsimdiff_cli"]
    tokens, kept = folder / "tokens.safetensors", folder / "kept.safetensors"
    subprocess.run([*program, "encode", str(CLIP), "-o", str(tokens)], check=True, capture_output=True)
    subprocess.run(
        [*program, "compress", str(tokens), "-o", str(kept), "--ratio", "0.3"], check=True, capture_output=True
    )
    return {
        **{name: [sys.executable, "-c", code] for name, code in IMPORTS.items()},
        "stsimdiff ask FILE": [*program, "ask", str(kept), QUESTION],
        "stsimdiff ask VIDEO": [*program, "ask", str(CLIP), QUESTION],
    }


def main() -> None:
    """Measure, print and perhaps write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON report to write")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"format": STARTUP, "machine": describe(), "repeats": arguments.repeats}
    report["load_before"] = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        processes = commands(Path(folder))
        rounds = [{n: cpu_seconds(command) for n, command in processes.items()} for _ in range(arguments.repeats)]
    report["rows"] = []
    for name in processes:
        seconds = [one[name] for one in rounds]
        row = {"process": name, "median": statistics.median(seconds), "from": min(seconds), "to": max(seconds)}
        report["rows"].append({key: round(value, 3) if key != "process" else value for key, value in row.items()})
        print(json.dumps(report["rows"][-1]), flush=True)
    report["load_after"] = os.getloadavg()
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
