"""What an item is called, whatever its place."""

from __future__ import annotations

import os
import shutil

from stsimdiff_cli.archive.identity import contents_of, identified
from stsimdiff_cli.archive.outputs import name_of, names_of
from stsimdiff_cli.archive.shards import Shard
from stsimdiff_cli.archive.sources import Found, find


def found(name="a.mp4", size=5, mtime=7, path=None, **more):
    return Found(path or f"/videos/{name}", name, size, mtime, **more)


def ids(*files, **more):
    return [item.id for item in identified(files, **more)]


def test_an_id_depends_on_path_size_time_and_part_and_on_nothing_else():
    (plain,) = ids(found())
    assert ids(found(path="/elsewhere/a.mp4")) == [plain]
    assert ids(found("z.mp4"), found())[1] == plain
    others = ids(found("b.mp4"), found(size=6), found(mtime=8), found(start=1.0), found(end=1.0))
    assert len({plain, *others}) == 6


def test_moving_the_folder_changes_nothing(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "moved")
    before, after = (identified(find([str(folder)], None, False)) for folder in (corpus, tmp_path / "moved"))
    assert [item.id for item in before] == [item.id for item in after]


def test_touching_a_file_changes_its_id_but_not_that_of_its_content(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "moved")
    path = tmp_path / "moved" / "a.mp4"
    old = find([str(path)], None, False)
    os.utime(path, (1, 1))
    new = find([str(path)], None, False)
    assert ids(*old) != ids(*new)
    contents = contents_of([str(path)])
    assert ids(*old, contents=contents) == ids(*new, contents=contents)


def test_the_same_file_named_twice_is_one_item(corpus):
    assert len(identified(find([str(corpus / "a.mp4"), str(corpus / "a.mp4")], None, False))) == 1


def test_files_that_differ_in_their_root_alone_stay_apart(tmp_path):
    for root in ("one", "two"):
        (tmp_path / root).mkdir()
        (tmp_path / root / "a.mp4").write_bytes(b"same size")
        os.utime(tmp_path / root / "a.mp4", (1, 1))
    files = find([str(tmp_path / "one"), str(tmp_path / "two")], None, False)
    assert files[0].name == files[1].name
    assert len(set(ids(*files))) == 2
    assert ids(*files)[0] == ids(files[0])[0], "another source does not change the first one's id"


def test_the_name_of_an_output_tells_the_video_and_fits_a_file_system():
    (item,) = identified([found("deep/My film (1).mp4")])
    assert name_of(item) == f"{item.id[:2]}/My film (1)-{item.id[:8]}.safetensors"
    (odd,) = identified([found("ä" * 300 + "\n\x1b.mp4")])
    assert len(name_of(odd).encode()) < 255 and "\n" not in name_of(odd)


def test_outputs_of_equal_names_get_longer_ones():
    from dataclasses import replace

    (item,) = identified([found()])
    other = replace(item, id=item.id[:8] + "f" * 56)
    assert len(set(names_of([item, other]).values())) == 2


def test_every_item_is_in_exactly_one_shard():
    items = ids(*(found(f"{number}.mp4") for number in range(400)))
    shards = [[item for item in items if Shard(index, 4).holds(item)] for index in range(4)]
    assert sorted(item for shard in shards for item in shard) == sorted(items)
    assert min(map(len, shards)) > 60
