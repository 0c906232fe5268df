"""`stsimdiff status`: the log held against the files."""

from __future__ import annotations

import json
import shutil

import pytest

from stsimdiff_cli.archive.log import Row
from stsimdiff_cli.archive.status import anonymous, status_of
from tests.support.archives import GOOD, HOSTILE, outputs
from tests.support.commands import refused, run

ALL = len(GOOD) + len(HOSTILE) + 2


@pytest.fixture
def kept(serial, tmp_path):
    return shutil.copytree(serial, tmp_path / "kept")


def state(capsys, folder):
    return json.loads(run(capsys, "status", folder, "--json")[1])


def test_the_numbers_are_those_of_the_run(capsys, serial):
    data = state(capsys, serial)
    wanted = {"items": ALL, "success": len(GOOD), "failed": len(HOSTILE), "duplicate": 1, "skipped": 1, "left": 0}
    assert {name: data[name] for name in wanted} == wanted
    assert data["bytes"] == sum(map(len, outputs(serial).values()))
    assert 0 < data["kept"] < data["tokens"]
    assert {"decode", "encode", "write"} <= set(data["stage_seconds"])
    assert sum(error["count"] for error in data["errors"]) == len(HOSTILE)


def test_the_table_shows_states_and_the_commonest_errors(capsys, serial):
    code, out, _ = run(capsys, "status", serial)
    assert code == 0
    for part in ("10 items", "success", "duplicate", "Commonest errors", "has no video stream", "tokens kept"):
        assert part in " ".join(out.split())


def test_a_file_that_was_moved_away_is_not_done(capsys, kept):
    next(kept.rglob("a-*.safetensors")).unlink()
    data = state(capsys, kept)
    assert (data["success"], data["moved"], data["left"]) == (len(GOOD) - 1, 1, 0)


def test_files_count_without_a_log(capsys, kept):
    shutil.rmtree(kept / "log")
    data = state(capsys, kept)
    assert (data["items"], data["success"], data["failed"]) == (None, len(GOOD), 0)
    assert data["kept"] > 0
    assert "an unknown number of items" in run(capsys, "status", kept)[1]


def test_a_torn_log_counts_as_far_as_it_goes(capsys, kept):
    (log,) = (kept / "log").glob("*.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    assert state(capsys, kept)["success"] == len(GOOD)


def test_foreign_files_do_not_count(capsys, kept):
    folder = next(path for path in kept.iterdir() if len(path.name) == 2)
    (folder / "other.safetensors").write_bytes(b"not ours")
    assert state(capsys, kept)["success"] == len(GOOD)


def test_the_manifest_has_a_row_for_every_item(capsys, serial, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "manifest.parquet"
    code, _, err = run(capsys, "status", serial, "--parquet", path)
    assert code == 0 and f"{ALL} rows" in err
    table = parquet.read_table(path).to_pylist()
    assert sorted(row["status"] for row in table).count("success") == len(GOOD)
    assert all(row["error_message"] for row in table if row["status"] == "failed")
    assert all(row["seconds_encode"] > 0 for row in table if row["status"] == "success")
    assert "exists" in refused(capsys, "status", serial, "--parquet", path)


def test_a_folder_of_something_else_is_refused(capsys, tmp_path):
    assert "is not a folder that stsimdiff wrote" in refused(capsys, "status", tmp_path)
    assert "There is no folder" in refused(capsys, "status", tmp_path / "missing")
    (tmp_path / "file").touch()
    assert "is not a folder." in refused(capsys, "status", tmp_path / "file")


def test_equal_errors_of_different_items_are_counted_together(tmp_path):
    rows = [
        Row(str(n), f"v{n}.mp4", "failed", error_message=f"'v{n}.mp4' has {n + 1} bytes in 1.5 s of MP4.")
        for n in range(2)
    ]
    assert {anonymous(row) for row in rows} == {"'FILE' has N bytes in N s of MP4."}


def test_the_state_is_that_of_the_settings_of_run_json(kept):
    run_json = json.loads((kept / "run.json").read_text())
    run_json["settings"]["ratio"] = "0.5"
    (kept / "run.json").write_text(json.dumps(run_json))
    assert status_of(kept).rows == []
