"""benchmarks/synthetic.py: data sets in published layouts, true, balanced, the same for a seed, written whole."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks import synthetic
from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.synthetic.choices import LETTERS
from stsimdiff_cli.synthetic.clips import make_clip
from stsimdiff_cli.video import scan

pytest.importorskip("pyarrow")


def rows_of(path: Path) -> list[dict]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def videomme(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "mme"
    assert synthetic.write(folder, "videomme", 2, 3) == 8
    return folder


def test_videomme_has_the_published_columns_and_a_video_for_every_row(videomme):
    rows = rows_of(videomme / "videomme" / "test-00000-of-00001.parquet")
    assert list(rows[0]) == [
        "video_id", "duration", "domain", "sub_category", "url", "videoID", "question_id", "task_type", "question",
        "options", "answer",
    ]  # fmt: skip
    assert [row["question_id"] for row in rows] == [f"00{i}-{k}" for i in (1, 2) for k in (1, 2, 3, 4)]
    assert [row["duration"] for row in rows] == ["short"] * 4 + ["medium"] * 4
    assert all(isinstance(value, str) for row in rows for name, value in row.items() if name != "options")
    assert all([option[:3] for option in row["options"]] == ["A. ", "B. ", "C. ", "D. "] for row in rows)
    assert all(len({option[3:] for option in row["options"]}) == 4 for row in rows)
    assert Counter(row["answer"] for row in rows) == dict.fromkeys("ABCD", 2)
    for name, (low, high) in {rows[0]["videoID"]: (5, 8), rows[4]["videoID"]: (290, 910)}.items():
        scanned = scan(videomme / "data" / f"{name}.mp4")
        assert low <= scanned.duration <= high
        assert (scanned.width, scanned.height) == (112, 112)
    assert (videomme / "subtitle" / f"{rows[0]['videoID']}.srt").read_text().startswith("1\n00:00:00,000 --> 00:00:0")
    assert not (videomme / "subtitle" / f"{rows[4]['videoID']}.srt").exists()
    assert "config_name: videomme" in (videomme / "README.md").read_text()


def test_a_seed_gives_the_same_files_and_another_seed_others(videomme, tmp_path):
    synthetic.write(tmp_path / "again", "videomme", 1, 3)
    synthetic.write(tmp_path / "other", "videomme", 1, 4)
    again, other = ({p.name: p.read_bytes() for p in (tmp_path / n / "data").iterdir()} for n in ("again", "other"))
    assert all((videomme / "data" / name).read_bytes() == content for name, content in again.items())
    assert not set(again) & set(other)


def test_the_right_option_is_what_the_clip_shows():
    videos = list(synthetic.benchmark_videos("egoschema", 2, 5)) + list(
        synthetic.benchmark_videos("longvideobench", 2, 5)
    )
    for video in videos:
        for choice in video.choices:
            answers = [fact.answer for fact in video.clip.facts if fact.kind == choice.kind]
            assert choice.options[choice.right] in answers
            if choice.kind in ("flash", "vanish", "what", "count"):
                assert not set(answers) & {o for i, o in enumerate(choice.options) if i != choice.right}


@pytest.mark.parametrize("length", ["short", "medium", "long"])
def test_every_event_shows_in_64_frames_of_the_file(length):
    seeds = itertools.count(5)
    for _ in range(4):
        seed, kind = synthetic.find_clip(seeds, length)
        video = synthetic.BenchmarkVideo(1, length, seed, make_clip(seed, **kind), ())
        frames = len(video.clip.frames) * video.hold
        seen = {int(i) // video.hold for i in np.linspace(0, frames - 1, synthetic.FRAMES_SEEN)}
        assert seen == set(range(len(video.clip.frames)))
        low, high = synthetic.SECONDS[length]
        assert low * 0.9 <= video.seconds <= high * 1.1


def test_longvideobench_has_its_json_and_its_parquet(tmp_path):
    folder = tmp_path / "lvb"
    assert synthetic.write(folder, "longvideobench") == 2
    items = json.loads((folder / "lvb_val.json").read_text())
    rows = rows_of(folder / "validation-00000-of-00001.parquet")
    for item, row in zip(items, rows, strict=True):
        options = [row[f"option{i}"] for i in range(5)]
        assert options == [*item["candidates"], *["N/A"] * 5][:5]
        assert row["correct_choice"] == item["correct_choice"] < len(item["candidates"])
        assert (folder / "videos" / item["video_path"]).is_file()
        assert json.loads((folder / "subtitles" / item["subtitle_path"]).read_text())
    assert "candidates" not in rows[0]
    assert items[0]["starting_timestamp_for_subtitles"] > 0


def test_egoschema_has_five_options_and_indices(tmp_path):
    folder = tmp_path / "ego"
    assert synthetic.write(folder, "egoschema") == 2
    rows = rows_of(folder / "Subset" / "test-00000-of-00001.parquet")
    assert [[option[0] for option in row["option"]] for row in rows] == [list(LETTERS)] * 2
    assert {row["answer"] for row in rows} <= set("01234")
    assert all((folder / "videos" / f"{row['video_idx']}.mp4").is_file() for row in rows)


def test_a_set_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "write_video", full)
    with pytest.raises(StsimdiffError, match="cannot be written"):
        synthetic.write(tmp_path / "set", "egoschema", 1)
    assert not list(tmp_path.iterdir())


def test_requests_that_cannot_be_met_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RequestError, match="exists"):
        synthetic.write(tmp_path, "egoschema", 1)
    with pytest.raises(RequestError, match="--videos 0 is out of range"):
        synthetic.write(tmp_path / "new", "egoschema", 0)
    assert (tmp_path / "file").read_text() == "mine"
