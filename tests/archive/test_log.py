"""The log: what is written is read again, in any order and with damage."""

from __future__ import annotations

import os

import pytest

from stsimdiff_cli.archive.log import Log, Row, Start, fold, log_files, read_log
from stsimdiff_cli.errors import StsimdiffError


def row(id_="a", status="success", finished="2026-01-01T00:00:00.000Z", settings="s", **more) -> Row:
    return Row(id_, f"{id_}.mp4", status, settings, finished=finished, **more)


def read_all(out):
    return [line for path in log_files(out) for line in read_log(path)]


def test_rows_come_back_as_they_were(tmp_path):
    log = Log(tmp_path)
    written = row(seconds={"decode": 1.5}, tokens=3, error_message="a “quote”\nand a line")
    log.start(items=2, settings="s", shard="0/1")
    log.add(written)
    log.close()
    start, read = read_all(tmp_path)
    assert read == written
    assert isinstance(start, Start) and (start.items, start.settings) == (2, "s")


def test_no_log_is_an_empty_one(tmp_path):
    assert log_files(tmp_path) == []
    assert fold(tmp_path, "s").start is None


def test_a_process_without_rows_leaves_no_file(tmp_path):
    Log(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_is_left_out(tmp_path, cut):
    log = Log(tmp_path)
    log.add(row("a"))
    log.add(row("b"))
    log.close()
    log.path.write_bytes(log.path.read_bytes()[:-cut])
    assert [line.id for line in read_all(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    "line", ["", "{}", "[]", "null", '{"id": 1', '{"id":"a","path":"b","status":"odd"}', "\x00" * 9]
)
def test_lines_of_another_kind_are_left_out(tmp_path, line):
    log = Log(tmp_path)
    log.add(row("a"))
    log.close()
    with log.path.open("a") as file:
        file.write(line + "\n" + row("b").line())
    assert [each.id for each in read_all(tmp_path)] == ["a", "b"]


def test_entries_that_this_version_does_not_know_are_ignored(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "x.jsonl").write_text('{"id":"a","path":"a.mp4","status":"failed","new":1}\n')
    assert [each.status for each in read_all(tmp_path)] == ["failed"]


def test_the_row_that_was_finished_last_counts_whatever_its_file(tmp_path):
    late, early = Log(tmp_path), Log(tmp_path)
    late.add(row("a", "failed", "2026-01-01T00:00:02.000Z"))
    early.add(row("a", "success", "2026-01-01T00:00:01.000Z"))
    early.add(row("a", "success", "2026-01-01T00:00:09.000Z", settings="others"))
    assert fold(tmp_path, "s").rows["a"].status == "failed"


def test_of_a_video_that_was_replaced_only_the_new_one_counts(tmp_path):
    log = Log(tmp_path)
    log.add(Row("old", "a.mp4", "failed", "s", finished="1"))
    log.add(Row("new", "a.mp4", "success", "s", finished="2"))
    log.add(Row("part", "a.mp4", "success", "s", finished="0", begin=1.0))
    folded = fold(tmp_path, "s")
    assert sorted(each.id for each in folded.current()) == ["new", "part"]
    assert set(folded.rows) == {"old", "new", "part"}


def test_a_log_that_cannot_be_written_ends_with_a_sentence(tmp_path):
    (tmp_path / "log").write_text("a file in the place of the folder")
    with pytest.raises(StsimdiffError, match="cannot be written") as caught:
        Log(tmp_path).add(row())
    assert caught.value.hint


def begun_and_killed(out, *ids) -> Log:
    """The log of a process that ends while it works on items. Its lock goes with it."""
    log = Log(out)
    for id_ in ids:
        log.begin(id_)
    os.close(log._file.handle)
    return log


def test_what_was_begun_when_a_process_was_killed_is_known(tmp_path):
    begun_and_killed(tmp_path, "a", "b")
    begun_and_killed(tmp_path, "a")
    assert fold(tmp_path, "s").unended == {"a": 2, "b": 1}


def test_what_has_a_row_or_was_left_ended(tmp_path):
    log = Log(tmp_path)
    for id_ in "abc":
        log.begin(id_)
    log.add(row("a", "failed"))
    log.leave("b")
    assert fold(tmp_path, "s").unended == {}, "its process is still there"
    log.close()
    assert fold(tmp_path, "s").unended == {}, "a process that ends in order leaves what it had begun"


def test_a_process_that_is_still_there_has_not_failed_at_what_it_works_on(tmp_path):
    log = Log(tmp_path)
    log.begin("a")
    assert fold(tmp_path, "s").unended == {}
    os.close(log._file.handle)
    assert fold(tmp_path, "s").unended == {"a": 1}
