"""The time line of a run."""

from __future__ import annotations

import itertools
import json
import os
import threading

import pytest

from stsimdiff_cli import pipeline
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.profiling import report
from stsimdiff_cli.profiling.trace import save_trace, timeline
from stsimdiff_cli.timing.spans import Span, busy_seconds, recording, span, trace_events
from stsimdiff_cli.video import Sampling
from tests.support.clip_factory import SAMPLES
from tests.support.profile_jobs import make_job, measure
from tests.support.second_device import second_device
from tests.support.trace_format import check_trace

CLIP = SAMPLES / "flash.mp4"
FRAMES = 20
CHUNKS = 3


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """A profile with a trace: exit code, output, report and trace."""
    folder = tmp_path_factory.mktemp("trace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "run_cell", lambda job: json.loads(json.dumps(measure(job))))
        arguments = ["profile", str(CLIP), "--frames", f"{FRAMES}", "--repeats", "1", "--max-new-tokens", "2"]
        arguments += ["--device", "cpu", "--decode-workers", "2", "--trace", str(folder / "trace.json")]
        code = main([*arguments, "-o", str(folder / "report.json")])
    return code, *(json.loads((folder / name).read_text()) for name in ("report.json", "trace.json"))


def spans_of(trace: dict, name: str) -> list[dict]:
    return [event for event in trace["traceEvents"] if event["ph"] == "X" and event["name"] == name]


def test_the_file_keeps_the_rules_of_its_format(profiled):
    code, _, trace = profiled
    assert code == 0
    check_trace(trace)


def test_every_chunk_has_a_span_in_every_stage(profiled):
    *_, trace = profiled
    for name in ("preprocess", "encode", "copy"):
        numbers = [event["args"]["chunk"] for event in spans_of(trace, name)]
        assert sorted(numbers) == sorted([*range(CHUNKS)] * 2), name  # two cells
    assert {event["args"]["chunk"] for event in spans_of(trace, "decode")} == set(range(CHUNKS))
    assert sum(event["args"]["frames"] for event in spans_of(trace, "decode")) == 2 * FRAMES
    chunks = [event for event in spans_of(trace, "write") if "chunk" in event["args"]]
    assert len(chunks) == 2 * CHUNKS
    for name in ("scan", "checksum", "load", "select", "prefill", "answer"):
        assert spans_of(trace, name), name


def test_threads_and_processes_have_their_names(profiled):
    *_, trace = profiled
    names = {(e["name"], e["args"]["name"]) for e in trace["traceEvents"] if e["ph"] == "M"}
    assert ("process_name", f"vanilla, {FRAMES} frames") in names
    for thread in ("main", "prepare", "write"):
        assert ("thread_name", thread) in names
    assert {event["pid"] for event in trace["traceEvents"]} == {os.getpid()}  # the cells ran in this process
    main_thread = {e["tid"] for e in trace["traceEvents"] if e["args"].get("name") == "main"}
    assert main_thread == {threading.get_native_id()} == {event["tid"] for event in spans_of(trace, "encode")}


def test_chunks_follow_each_other_through_the_stages(profiled):
    """Nothing begins before what it needs is there."""
    *_, trace = profiled
    for number in range(CHUNKS):
        decode, preprocess, encode, copy = (
            [e for e in spans_of(trace, name) if e["args"]["chunk"] == number][-1]
            for name in ("decode", "preprocess", "encode", "copy")
        )
        assert decode["ts"] + decode["dur"] <= preprocess["ts"] + preprocess["dur"]
        assert preprocess["ts"] + preprocess["dur"] <= encode["ts"]
        assert encode["ts"] + encode["dur"] <= copy["ts"]


def test_the_report_says_how_much_of_the_time_the_encoder_worked(profiled, capsys):
    _, measured, trace = profiled
    assert all("trace" not in row for row in measured["rows"])
    row = measured["rows"][-1]
    work = sorted((e["ts"], e["ts"] + e["dur"]) for e in spans_of(trace, "encode"))[-CHUNKS:]
    length = work[-1][1] - work[0][0]
    assert row["encoder"]["seconds"] == pytest.approx(length / 1e6, abs=1e-4)
    assert row["encoder"]["busy_percent"] == pytest.approx(100 * sum(b - a for a, b in work) / length, abs=0.1)


def test_a_profile_without_a_trace_makes_no_further_run(monkeypatch):
    numbers = measure(make_job(video=str(CLIP), repeats=1, runtime=Runtime("cpu")))
    assert "trace" not in numbers and "encoder" not in numbers


def test_on_a_gpu_its_own_work_has_a_row(tmp_path):
    with second_device(), recording() as spans:
        pipeline.encode_video(CLIP, sampling=Sampling(frames=FRAMES), runtime=Runtime("cuda:1"))
    work = [each for each in spans if each.name == "encode"]
    assert [each.facts["chunk"] for each in work] == list(range(CHUNKS))
    assert {(each.thread, each.thread_name) for each in work} == {(0, "GPU")}
    queued = [each for each in spans if each.name == "queue"]
    assert {each.thread_name for each in queued} == {"main"} and len(queued) == CHUNKS
    for one, other in zip(work, queued, strict=True):
        assert one.begin == pytest.approx(other.begin, abs=0.05) and one.end == pytest.approx(other.end, abs=0.05)
    path = tmp_path / "trace.json"
    save_trace(path, [timeline(spans, make_job())])
    check_trace(json.loads(path.read_text()))


def test_nothing_is_recorded_outside_of_a_recording():
    with span("before"):
        pass
    with recording() as spans, span("during", chunk=1):
        pass
    with span("after"):
        pass
    assert [(each.name, each.facts) for each in spans] == [("during", {"chunk": 1})]
    with recording(), pytest.raises(ValueError, match="one recording"), recording():
        pass


def test_seconds_that_overlap_count_once():
    assert busy_seconds([(0, 2), (1, 3), (5, 6), (5.5, 5.6)]) == 4
    assert busy_seconds([]) == 0


def test_spans_that_follow_each_other_do_not_overlap_by_rounding():
    ends = [0.1 * n + 1e-7 * n for n in range(200)]
    spans = [Span("a", begin, end, 1, "main") for begin, end in itertools.pairwise(ends)]
    check_trace({"traceEvents": trace_events(spans, "p"), "displayTimeUnit": "ms"})


@pytest.mark.parametrize(
    "change",
    [
        {"ph": "B"},
        {"dur": -1},
        {"pid": "7"},
        {"tid": 99},
        {"ts": 5},
    ],
)
def test_the_check_of_the_format_can_fail(change):
    events = trace_events([Span("a", 0.0, 1e-5, 1, "main"), Span("b", 1e-5, 2e-5, 1, "main")], "p")
    events[-1] |= change
    with pytest.raises(AssertionError):
        check_trace({"traceEvents": events, "displayTimeUnit": "ms"})
