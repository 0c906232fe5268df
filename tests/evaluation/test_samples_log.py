"""The log of responses: what is torn, foreign or of other settings; and runs that go on from it."""

from __future__ import annotations

import json

import pytest

from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.evaluation.answering import Settings
from stsimdiff_cli.evaluation.plan import make_plan
from stsimdiff_cli.evaluation.report import bench_report, bench_request
from stsimdiff_cli.evaluation.run import Evaluator
from stsimdiff_cli.evaluation.samples_log import ITEMS, SamplesLog
from tests.support.made_up import REQUEST, MadeUp, timeless


class Stub(Evaluator):
    """Hands out responses that are made already, and dies after some videos."""

    def __init__(self, bench: MadeUp, log: SamplesLog, until: int = 99) -> None:
        super().__init__(bench.task, bench.plan, Settings("tiny", 32), log)
        self.bench, self.until = bench, until
        self.asked: list[str] = []

    def ask(self, samples):
        if len(self.asked) == self.until:
            raise KeyboardInterrupt
        self.asked.append(samples[0].video)
        return [self.bench.log[name, float(ratio), each.id] for (name, ratio), some in self.missing(samples).items()
                for each in some]  # fmt: skip


def report_of(bench: MadeUp, samples: list, log: SamplesLog) -> dict:
    return timeless(bench_report(REQUEST, bench.task, samples, bench.plan, log))


def test_a_torn_line_is_left_out_and_finished_clips_are_not_repeated(tmp_path):
    bench, path = MadeUp(make_plan("all", "0.1,0.5"), 6), tmp_path / "r.partial"
    bench.set(bench.clips[0], ("random", "0.1"), ["é\n\u2028"] * 5)
    bench.set(bench.clips[1], ("random", "0.1"), ["two"] * 5, event_recall=None)
    four = [sample for clip in bench.clips[:4] for sample in clip]
    with pytest.raises(KeyboardInterrupt):
        Stub(bench, SamplesLog.in_file(path, REQUEST), 3).run(four)
    with path.open("ab") as file:
        file.write(path.read_bytes().splitlines()[1][:100])
    second, steps = Stub(bench, SamplesLog.in_file(path, REQUEST)), []
    assert second.done(four) == 3
    second.run(four, steps.append)
    assert (second.asked, steps) == (["clip 3"], [3, 4])
    third = Stub(bench, SamplesLog.in_file(path, REQUEST))
    third.run(bench.samples)
    assert third.asked == ["clip 4", "clip 5"]
    assert report_of(bench, bench.samples, third.log) == report_of(bench, bench.samples, bench.log)
    third.log.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_of_a_clip_is_asked_and_nothing_else(tmp_path):
    bench, path = MadeUp(make_plan("random", "0.1"), 2), tmp_path / "r.partial"
    Stub(bench, SamplesLog.in_file(path, REQUEST)).run(bench.samples)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))  # the last two answers without the video
    again = Stub(bench, SamplesLog.in_file(path, REQUEST))
    assert {cell: len(some) for cell, some in again.missing(bench.samples).items()} == {("no video", "0"): 2}
    again.run(bench.samples)
    assert path.read_text().splitlines(keepends=True) == lines


def test_a_log_of_another_request_is_refused_untouched_and_discarded_by_force(tmp_path):
    bench, path = MadeUp(make_plan("random", "0.5"), 1), tmp_path / "r.partial"
    first = SamplesLog.in_file(path, REQUEST)
    first.add(bench.responses(("random", "0.5")))
    before = path.read_bytes()
    with pytest.raises(RequestError, match="other settings") as caught:
        SamplesLog.in_file(path, REQUEST | {"seed": 1})
    assert "--force" in caught.value.hint
    assert path.read_bytes() == before
    key = bench.responses(("random", "0.5"))[0].key
    assert key in SamplesLog.in_file(path, REQUEST, force=True)  # its own it keeps
    assert key not in SamplesLog.in_file(path, REQUEST | {"seed": 1}, force=True)
    assert json.loads(path.read_text()) == REQUEST | {"seed": 1}


FOREIGN = [b"dear diary,\ntoday\n", b"dear diary", b"", b'{"some": "json"}\n', b"\xff\xfe\x00binary\n"]


@pytest.mark.parametrize("content", [*FOREIGN, json.dumps(REQUEST).encode() + b'\n{"x": 1}\n'])
def test_a_foreign_file_is_refused_untouched(tmp_path, content):
    path = tmp_path / "r.partial"
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        SamplesLog.in_file(path, REQUEST)
    assert caught.value.hint
    assert path.read_bytes() == content


def test_a_folder_in_the_place_of_the_log_is_refused(tmp_path):
    (tmp_path / "r.partial").mkdir()
    with pytest.raises(RequestError, match="is a folder"):
        SamplesLog.in_file(tmp_path / "r.partial", REQUEST)


def test_a_log_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(StsimdiffError, match="cannot be written") as caught:
        SamplesLog.in_file(tmp_path / "gone" / "r.partial", REQUEST)
    assert caught.value.hint


def test_a_video_that_was_replaced_is_another_request(tmp_path):
    plan, path, settings = make_plan("uniform", "0.5"), tmp_path / "v.mp4", Settings("tiny", 8)
    path.write_bytes(b"one")
    first = bench_request(plan, settings, 0, ["what?"], [path])
    assert first == bench_request(plan, settings, 0, ["what?"], [path])
    path.write_bytes(b"three")
    assert first != bench_request(plan, settings, 0, ["what?"], [path])


def test_lines_of_another_shape_are_refused(tmp_path):
    SamplesLog.in_folder(tmp_path, {"a": 1})
    (tmp_path / ITEMS).write_text('{"id": 1}\n')
    with pytest.raises(RequestError, match="something else than answers"):
        SamplesLog.in_folder(tmp_path, {"a": 1})
    assert (tmp_path / ITEMS).read_text() == '{"id": 1}\n'


def test_the_lines_of_a_folder_are_answers_and_a_torn_one_is_cut_off(tmp_path):
    bench = MadeUp(make_plan("random", "0.5"), 1)
    responses = bench.responses(("random", "0.5"))
    log = SamplesLog.in_folder(tmp_path, {"a": 1})
    log.add(responses)
    whole = (tmp_path / ITEMS).read_bytes()
    (tmp_path / ITEMS).write_bytes(whole + whole[:50])
    again = SamplesLog.in_folder(tmp_path, {"a": 1})
    assert (tmp_path / ITEMS).read_bytes() == whole
    assert [again[response.key] for response in responses] == responses
