"""Many videos from beginning to end, in this process alone: what is made, kept, skipped and refused."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from stsimdiff_cli.archive import job as job_module
from stsimdiff_cli.errors import StsimdiffError
from tests.support.archives import GOOD, HOSTILE, SMALL, items_of, leftovers, outputs, rows
from tests.support.commands import refused, run

ALONE = ("--workers", "0")


@pytest.fixture
def videos(corpus, tmp_path):
    """A copy of the corpus that may be changed."""
    return shutil.copytree(corpus, tmp_path / "videos")


@pytest.fixture
def kept(serial, tmp_path):
    """A copy of the outputs that may be changed."""
    return shutil.copytree(serial, tmp_path / "kept")


def compress(capsys, source, out, *more):
    """Exit code, report and stderr."""
    code, text, err = run(capsys, "compress", source, "-o", out, *ALONE, *SMALL, "--json", *more)
    return code, json.loads(text) if text else {}, err


# --- What is made -----------------------------------------------------------------------------------------------------


def test_every_video_that_can_be_read_has_an_output_and_the_others_a_row(serial):
    last = {row["path"]: row["status"] for row in rows(serial)}
    assert last == {
        **dict.fromkeys(GOOD, "success"),
        **dict.fromkeys(HOSTILE, "failed"),
        "twin.mp4": "duplicate",
        "readme": "skipped",
    }
    assert len(outputs(serial)) == len(GOOD)
    assert leftovers(serial) == []


def test_outputs_are_where_their_ids_say(serial):
    for row in rows(serial):
        if row["status"] == "success":
            stem = row["path"].split("/")[-1].rsplit(".", 1)[0]
            assert row["output"] == f"{row['id'][:2]}/{stem}-{row['id'][:8]}.safetensors"
            assert (serial / row["output"]).stat().st_size == row["bytes"]


def test_a_row_tells_what_was_done(serial):
    row = next(row for row in rows(serial) if row["path"] == "b.mkv")
    assert row["kept"] == -(-3 * row["tokens"] // 10)
    assert {"scan", "load", "decode", "encode", "write"} <= set(row["seconds"])
    assert row["attempt"] == 1 and row["pid"] == os.getpid() and row["started"] <= row["finished"]


def test_an_output_is_the_file_of_the_single_command_but_for_its_mark(capsys, corpus, serial, tmp_path):
    from safetensors.numpy import load_file

    assert run(capsys, "compress", corpus / "b.mkv", "-o", tmp_path / "one", *SMALL)[0] == 0
    row = next(row for row in rows(serial) if row["path"] == "b.mkv")
    one, many = load_file(tmp_path / "one"), load_file(serial / row["output"])
    assert set(one) == set(many)
    assert all((one[name] == many[name]).all() for name in one if one[name].dtype != "V2")
    assert b'"archive' not in (tmp_path / "one").read_bytes()


def test_an_output_answers_questions(capsys, serial):
    path = next(serial.rglob("a-*.safetensors"))
    assert run(capsys, "ask", path, "What happens in this video?", "--max-new-tokens", 2)[0] == 0


def test_encode_writes_tokens_files_and_compress_takes_them(capsys, corpus, serial, tmp_path):
    frames = SMALL[2:]
    assert run(capsys, "encode", corpus, "-o", tmp_path / "tokens", *ALONE, *frames)[0] == 1
    code, out, _ = run(capsys, "compress", tmp_path / "tokens", "-o", tmp_path / "k", *ALONE, *SMALL[:2], "--json")
    assert code == 0 and json.loads(out)["success"] == len(GOOD)
    stems = sorted(path.name.split("-")[0] for path in (tmp_path / "k").rglob("*.safetensors"))
    assert stems == ["a", "b", "c", "d"]


def test_compressed_files_in_a_folder_are_passed_over(capsys, serial, tmp_path):
    code, report, _ = compress(capsys, serial, tmp_path / "again")
    assert code == 0
    assert (report["success"], report["skipped"]) == (0, len(GOOD))


def test_a_list_with_parts_gives_an_output_for_each(capsys, videos, tmp_path):
    (videos / "list.csv").write_text("path,start,end\nb.mkv,,0.3\nb.mkv,0.3,\nb.mkv,,\nb.mkv,0,0.3\nmissing.mp4,,\n")
    code, report, err = compress(capsys, videos / "list.csv", tmp_path / "kept")
    assert code == 1
    assert (report["success"], report["failed"], report["items"]) == (4, 1, 5)
    assert "missing.mp4" in err
    made = {
        tuple(row.get(name) for name in ("begin", "end")): row["tokens"]
        for row in rows(tmp_path / "kept")
        if row["status"] == "success"
    }
    assert set(made) == {(None, 0.3), (0.3, None), (None, None), (0.0, 0.3)}


def test_shards_together_make_what_one_run_makes(capsys, corpus, serial, tmp_path):
    reports = [compress(capsys, corpus, tmp_path / "kept", "--shard", f"{index}/2") for index in range(2)]
    assert outputs(tmp_path / "kept") == outputs(serial)
    assert sum(report["items"] for _, report, _ in reports) == len(GOOD) + len(HOSTILE) + 2
    success = [row["id"] for row in rows(tmp_path / "kept") if row["status"] == "success"]
    assert sorted(success) == sorted(set(success)) == sorted(items_of(tmp_path / "kept"))


def test_with_checksum_equal_videos_are_one_item_and_a_touched_one_is_not_new(capsys, videos, tmp_path):
    assert compress(capsys, videos, tmp_path / "kept", "--checksum")[1]["success"] == len(GOOD)
    os.utime(videos / "a.mp4", (1, 1))
    report = compress(capsys, videos, tmp_path / "kept", "--checksum")[1]
    assert (report["success"], report["done_before"]) == (0, len(GOOD))


# --- The second start -------------------------------------------------------------------------------------------------


def test_a_second_start_does_nothing_and_remembers_the_failures(capsys, corpus, kept, serial):
    before = len(rows(kept))
    code, report, err = compress(capsys, corpus, kept)
    assert code == 1
    assert (report["success"], report["done_before"], report["failed_before"]) == (0, len(GOOD), len(HOSTILE))
    assert len(rows(kept)) == before, "nothing new is logged"
    assert "--retry-failed" in err
    assert outputs(kept) == outputs(serial)


def test_failed_items_are_tried_again_when_asked_for(capsys, corpus, kept):
    before = len(rows(kept))
    assert compress(capsys, corpus, kept, "--retry-failed")[1]["failed"] == len(HOSTILE)
    assert len(rows(kept)) == before + len(HOSTILE) + 1, "and so is what was not a video"


def test_a_file_that_was_moved_away_is_made_again(capsys, corpus, kept, serial):
    gone = next(kept.rglob("a-*.safetensors"))
    gone.unlink()
    report = compress(capsys, corpus, kept)[1]
    assert report["success"] == 1
    assert outputs(kept) == outputs(serial)


def test_a_file_that_was_damaged_is_made_again(capsys, corpus, kept, serial):
    broken = next(kept.rglob("b-*.safetensors"))
    broken.write_bytes(broken.read_bytes()[:-5])
    assert compress(capsys, corpus, kept)[1]["success"] == 1
    assert outputs(kept) == outputs(serial)


def test_a_file_in_the_place_of_another_item_does_not_count(capsys, corpus, kept, serial):
    one, other = next(kept.rglob("b-*.safetensors")), next(kept.rglob("c-*.safetensors"))
    shutil.copy(one, other)
    assert compress(capsys, corpus, kept)[1]["success"] == 1
    assert outputs(kept) == outputs(serial)


def test_a_lost_log_loses_no_output(capsys, corpus, kept, serial):
    shutil.rmtree(kept / "log")
    report = compress(capsys, corpus, kept)[1]
    assert (report["success"], report["done_before"]) == (0, len(GOOD))
    known = {row["path"]: row for row in rows(kept) if row["status"] == "success"}
    assert set(known) == set(GOOD), "the log learns of them from their headers"
    assert all(row["tokens"] > row["kept"] > 0 for row in known.values())


def test_a_lost_run_json_is_written_again(capsys, corpus, kept):
    before = (kept / "run.json").read_text()
    (kept / "run.json").unlink()
    assert compress(capsys, corpus, kept)[1]["done_before"] == len(GOOD)
    assert json.loads((kept / "run.json").read_text())["settings"] == json.loads(before)["settings"]


def test_a_torn_log_line_is_as_if_it_had_not_been_written(capsys, corpus, kept):
    (log,) = (kept / "log").glob("*.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]) + lines[-1][:30])
    assert compress(capsys, corpus, kept)[1]["done_before"] == len(GOOD)


def test_a_video_that_was_replaced_is_new(capsys, videos, tmp_path):
    out = tmp_path / "kept"
    compress(capsys, videos, out)
    shutil.copy(videos / "b.mkv", videos / "cut.mp4")
    report = compress(capsys, videos, out)[1]
    assert (report["success"], report["duplicates"], report["failed_before"]) == (0, 2, len(HOSTILE) - 1)


def test_a_duplicate_takes_the_place_of_a_video_that_is_gone(capsys, videos, tmp_path):
    out = tmp_path / "kept"
    compress(capsys, videos, out)
    (videos / "a.mp4").unlink()
    report = compress(capsys, videos, out)[1]
    assert (report["success"], report["duplicates"]) == (1, 0)


def test_an_equal_video_of_an_earlier_name_does_not_replace_what_is_done(capsys, videos, tmp_path):
    out = tmp_path / "kept"
    compress(capsys, videos, out)
    shutil.copy(videos / "b.mkv", videos / "0.mkv")
    report = compress(capsys, videos, out)[1]
    assert (report["success"], report["duplicates"]) == (0, 2)


# --- Failures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken_save(monkeypatch):
    """Lets the writing of outputs fail: with the errors given, one after another, and then not any more."""
    save = job_module.save_compressed
    errors: list[BaseException] = []

    def fail(*args):
        if errors:
            raise errors.pop(0)
        return save(*args)

    monkeypatch.setattr(job_module, "save_compressed", fail)
    return errors


def test_a_passing_failure_gets_a_second_attempt(capsys, corpus, serial, tmp_path, broken_save):
    broken_save += [OSError(5, "Input/output error")]
    report = compress(capsys, corpus, tmp_path / "kept")[1]
    assert report["success"] == len(GOOD)
    assert outputs(tmp_path / "kept") == outputs(serial)
    failed = [row for row in rows(tmp_path / "kept") if row["stage" if "stage" in row else "id"] == "write"]
    assert [(row["attempt"], row["transient"]) for row in failed] == [(1, True)]


def test_attempts_are_limited_and_the_next_start_tries_again(capsys, corpus, serial, tmp_path, broken_save):
    broken_save += [MemoryError()] * len(GOOD)
    report = compress(capsys, corpus, tmp_path / "kept", "--attempts", "1")[1]
    assert (report["success"], report["failed"]) == (0, len(GOOD) + len(HOSTILE))
    assert compress(capsys, corpus, tmp_path / "kept")[1]["success"] == len(GOOD)
    assert outputs(tmp_path / "kept") == outputs(serial)


def test_a_bug_fails_its_item_for_good_and_no_other(capsys, corpus, tmp_path, broken_save):
    broken_save += [ZeroDivisionError("division by zero")]
    report = compress(capsys, corpus, tmp_path / "kept")[1]
    assert (report["success"], report["failed"]) == (len(GOOD) - 1, len(HOSTILE) + 1)
    assert compress(capsys, corpus, tmp_path / "kept")[1]["failed_before"] == len(HOSTILE) + 1


def test_a_full_disk_ends_the_run_and_charges_nobody(capsys, corpus, tmp_path, broken_save):
    error = StsimdiffError("The disk is full: x was not written.", "Free some space.")
    error.__cause__ = OSError(28, "No space left on device")
    broken_save += [error]
    code, _, err = run(capsys, "compress", corpus, "-o", tmp_path / "kept", *ALONE, *SMALL)
    assert code == 1 and "The disk is full" in err and "hint:" in err
    assert {row["status"] for row in rows(tmp_path / "kept")} <= {"failed", "duplicate", "skipped"}
    assert not [row for row in rows(tmp_path / "kept") if row.get("stage") == "write"]
    assert compress(capsys, corpus, tmp_path / "kept")[1]["success"] == len(GOOD)


def test_a_model_that_cannot_be_loaded_ends_the_run(capsys, corpus, tmp_path, monkeypatch):
    from stsimdiff_cli.errors import ModelError

    def fail(*args, **more):
        raise ModelError("The weights are damaged.", "Download them again.")

    monkeypatch.setattr("stsimdiff_cli.models.inference.vision_encoder.load_vision", fail)
    err = refused(capsys, "compress", corpus, "-o", tmp_path / "kept", *ALONE, *SMALL, code=1)
    assert "The weights are damaged." in err
    assert not [row for row in rows(tmp_path / "kept") if row.get("stage") == "load"]


# --- What is refused --------------------------------------------------------------------------------------------------


def test_other_settings_are_refused_in_words(capsys, corpus, kept, serial):
    err = refused(capsys, "compress", corpus, "-o", kept, *ALONE, "--ratio", "0.5", "--frames", "4")
    assert "ratio was 0.3, is now 0.5" in err
    assert outputs(kept) == outputs(serial)


def test_force_makes_everything_anew_with_other_settings(capsys, corpus, kept, serial):
    _, out, _ = run(
        capsys, "compress", corpus, "-o", kept, *ALONE, "--ratio", "0.5", "--frames", "4", "--force", "--json"
    )
    assert json.loads(out)["success"] == len(GOOD)
    assert outputs(kept).keys() == outputs(serial).keys()
    assert compress(capsys, corpus, kept, "--force")[1]["success"] == len(GOOD)
    assert outputs(kept) == outputs(serial)


@pytest.mark.parametrize(("more", "part"), [
    (("--shard", "4/4"), "no shard 4 of 4"),
    (("--timeout", "0"), "timeout of 0"),
    (("--timeout", "nan"), "timeout of nan"),
    (("--devices", "cuda:99"), "'cuda:99' is not available"),
    (("--device", "cuda:99"), "'cuda:99' is not available"),
])  # fmt: skip
def test_impossible_options_are_refused(capsys, corpus, tmp_path, more, part):
    assert part in refused(capsys, "compress", corpus, "-o", tmp_path / "kept", "--ratio", "0.3", *more)
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("more", [
    ("--workers", "2"), ("--shard", "0/2"), ("--retry-failed",), ("--attempts", "3"), ("--checksum",),
    ("--timeout", "3"),
])  # fmt: skip
def test_options_for_many_are_refused_for_one(capsys, corpus, tmp_path, more):
    err = refused(capsys, "compress", corpus / "a.mp4", "-o", tmp_path / "one", "--ratio", "0.3", *more)
    assert f"{more[0]} is for many videos" in err


def test_outputs_go_to_a_folder_that_is_not_read(capsys, corpus, tmp_path):
    (tmp_path / "file").write_text("x")
    assert "is not a folder" in refused(capsys, "compress", corpus, "-o", tmp_path / "file", "--ratio", "0.3")
    assert "is read by this command" in refused(capsys, "compress", corpus, "-o", corpus, "--ratio", "0.3")
    refused(capsys, "encode", corpus, "-o", "")


def test_a_folder_without_videos_is_refused(capsys, tmp_path):
    (tmp_path / "videos").mkdir()
    err = refused(capsys, "encode", tmp_path / "videos", "-o", tmp_path / "tokens")
    assert "There is no video" in err and "--image-fps" in err
    assert not (tmp_path / "tokens").exists()


def test_a_single_file_still_goes_to_a_file(capsys, corpus, tmp_path):
    assert "is the name of a folder" in refused(capsys, "encode", corpus / "a.mp4", "-o", f"{tmp_path}/")


# --- What is said -----------------------------------------------------------------------------------------------------


def test_failures_and_duplicates_are_named_and_the_end_says_how_to_go_on(capsys, corpus, tmp_path):
    code, out, err = run(capsys, "compress", corpus, "-o", tmp_path / "kept", *ALONE, *SMALL)
    assert code == 1
    for name in HOSTILE:
        assert f"warning: {name}: " in err
    assert "twin.mp4 equals a.mp4" in err
    assert f"{len(HOSTILE)} of 10 items failed." in err and f"stsimdiff status {tmp_path / 'kept'}" in err
    assert out.startswith(f"{tmp_path / 'kept'}: 4 of 10 items done now, 4 failed, 1 equal to others, 1 not videos")


def test_progress_goes_to_stderr_now_and_then(capsys, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("stsimdiff_cli.cli.output.LOG_SECONDS", 0.0)
    _, out, err = run(capsys, "compress", corpus, "-o", tmp_path / "kept", *ALONE, *SMALL)
    assert "note: 9 of 9 videos looked into" in err
    assert "4 of 9 items" not in out and "items/s" in err and "left" in err


def test_what_comes_before_the_work_says_how_far_it_is(capsys, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("stsimdiff_cli.cli.output.LOG_SECONDS", 0.0)
    _, _, err = compress(capsys, corpus, tmp_path / "kept", "--checksum", "--shard", "0/1000000")
    assert "10 of 10 files read for their SHA-256" in err
    assert "of 9 items compared with what is there" in err, "one of ten is equal to another"
