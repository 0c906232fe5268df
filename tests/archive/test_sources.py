"""Which files a command is about."""

from __future__ import annotations

import json
import os

import pytest

from stsimdiff_cli.archive.sources import find, is_many
from stsimdiff_cli.errors import RequestError
from tests.support.archives import GOOD, HOSTILE


def names(*sources, out=None, stored=False):
    return [file.name for file in find([str(source) for source in sources], out, stored)]


def test_a_folder_gives_what_may_be_a_video_at_any_depth(corpus):
    assert names(corpus) == sorted([*GOOD, *HOSTILE, "twin.mp4", "readme"], key=lambda name: ("/" in name, name))


def test_only_names_that_promise_a_video_make_a_failure_of_one_that_cannot_be_opened(corpus):
    sure = {file.name: file.sure for file in find([str(corpus)], None, False)}
    assert not sure.pop("readme")
    assert all(sure.values())


def test_tokens_files_count_only_where_they_can_be_used(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"x")
    assert names(tmp_path) == []
    assert names(tmp_path, stored=True) == ["a.safetensors"]


def test_the_folder_of_outputs_is_left_out(tmp_path):
    for name in ("a.mp4", "kept/ab/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path, out=tmp_path / "kept") == ["a.mp4"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.mp4").write_bytes(b"x")
    (tmp_path / "videos" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "videos")
    (tmp_path / "videos" / "nowhere.mp4").symlink_to(tmp_path / "missing")
    assert names(tmp_path / "videos") == ["link/a.mp4"]


def test_pipes_in_a_folder_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert names(tmp_path) == []


def test_patterns_and_several_sources_add_up(corpus):
    assert names(corpus / "*.mkv", corpus / "deep") == [
        str(corpus / "b.mkv"),
        str(corpus / "empty.mkv"),
        "c.mp4",
        "er/d.mp4",
    ]


@pytest.mark.parametrize(("suffix", "text"), [
    (".txt", "# a comment\n\na.mp4\nsub/b.mp4\n"),
    (".csv", "path,title\na.mp4,x\nsub/b.mp4,y\n"),
    (".jsonl", '{"path": "a.mp4"}\n\n"sub/b.mp4"\n'),
])  # fmt: skip
def test_paths_in_a_list_start_at_the_folder_of_the_list(tmp_path, suffix, text):
    (tmp_path / "a.mp4").write_bytes(b"x")
    path = tmp_path / f"list{suffix}"
    path.write_text(text)
    found = find([str(path)], None, False)
    assert [(file.name, file.size) for file in found] == [("a.mp4", 1), ("sub/b.mp4", -1)]
    assert all(file.path.startswith(str(tmp_path)) for file in found)


def test_a_list_may_name_parts_of_videos(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("video,start,end\na.mp4,0,10.5\na.mp4,10.5,\n")
    assert [(file.start, file.end) for file in find([str(path)], None, False)] == [(0.0, 10.5), (10.5, None)]


def test_a_list_may_be_a_parquet_file(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"path": ["a.mp4", "b.mp4"], "start": [None, 2.0], "note": ["x", "y"]})
    parquet.write_table(table, tmp_path / "list.parquet")
    found = find([str(tmp_path / "list.parquet")], None, False)
    assert [(file.name, file.start) for file in found] == [("a.mp4", None), ("b.mp4", 2.0)]


@pytest.mark.parametrize(("name", "text", "part"), [
    ("l.csv", "title\nx\n", "no path in a column named path"),
    ("l.jsonl", "{broken\n", "Line 1 of"),
    ("l.jsonl", '{"path": 3}\n', "no path"),
    ("l.csv", "path,start\na.mp4,soon\n", "start is 'soon'"),
    ("l.csv", "path,end\na.mp4,-1\n", "end is '-1'"),
    ("l.parquet", "no parquet", "is not a Parquet file"),
])  # fmt: skip
def test_a_bad_list_is_refused_with_the_line(tmp_path, name, text, part):
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=part) as caught:
        find([str(tmp_path / name)], None, False)
    assert caught.value.hint


def test_a_list_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="cannot be read"):
        find([str(tmp_path / "l.txt")], None, False)


@pytest.mark.parametrize("source", ["missing.mp4", "*.missing"])
def test_a_source_that_names_nothing_is_refused(tmp_path, source):
    with pytest.raises(RequestError):
        find([str(tmp_path / source), str(tmp_path)], None, False)


def test_one_file_is_not_many(corpus, tmp_path):
    (tmp_path / "list.txt").write_text("a.mp4\n")
    (tmp_path / "[x].mp4").write_text("a name with brackets")
    assert not is_many([str(corpus / "a.mp4")])
    assert not is_many(["missing.mp4"])
    assert not is_many([str(tmp_path / "[x].mp4")])
    for source in (corpus, corpus / "*.mp4", tmp_path / "list.txt"):
        assert is_many([str(source)])
    assert is_many(["a.mp4", "b.mp4"])


def test_a_line_of_json_may_be_a_plain_text(tmp_path):
    (tmp_path / "l.jsonl").write_text(json.dumps("a.mp4") + "\n")
    assert names(tmp_path / "l.jsonl") == ["a.mp4"]


def test_a_folder_of_images_is_one_video_and_below_others_only_if_asked_for(tmp_path):
    for name in ("show/a/1.jpg", "show/a/2.jpg", "show/b.mp4", "show/b.jpg", "show/c/d/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    show = tmp_path / "show"
    assert not is_many([str(show / "a")])
    assert is_many([str(show)])
    assert names(show) == ["b.mp4"]
    below = find([str(show)], None, False, images=True)
    assert [file.name for file in below] == ["b.mp4", "a", "c/d"]
    assert [file.size for file in below] == [5, 10, 5]
    assert all(file.sure for file in below)
    assert [file.size for file in find([str(show / "a"), str(show / "b.mp4")], None, False)] == [10, 5]
    (tmp_path / "list.txt").write_text("show/a\nshow/b.mp4\n")
    assert is_many([str(tmp_path / "list.txt")])
    assert [file.size for file in find([str(tmp_path / "list.txt")], None, False)] == [10, 5]
    (tmp_path / "images.txt").write_text("show/a/2.jpg\nshow/c/d/1.png\n")
    assert not is_many([str(tmp_path / "images.txt")])
