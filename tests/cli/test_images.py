"""A folder of images on the command line: encoded, compressed, asked about and drawn like a video."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

import stsimdiff_cli as st
from tests.support.clip_factory import paint
from tests.support.commands import refused, run


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "show"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(paint(number)).save(folder / f"{number}.png")
    return folder


def test_a_folder_is_compressed_asked_about_and_drawn(capsys, images, tmp_path):
    output = tmp_path / "kept.safetensors"
    times = "--frames", 3, "--image-fps", 3
    code, _, err = run(capsys, "compress", images, "-o", output, "--ratio", 0.5, "--method", "evs", *times)
    assert code == 0, err
    video = st.load(output)
    assert video.grid.seconds == pytest.approx((0, 2 / 3, 5 / 3))
    assert (video.grid.source.name, video.grid.source.seconds) == ("show", 2.0)
    code, out, err = run(capsys, "view", output, "-o", tmp_path / "page.html", "--video", images, "--json")
    assert code == 0, err
    assert json.loads(out)["video"] == str(images)
    code, out, err = run(capsys, "ask", images, "What happens?", *times, "--json", "--max-new-tokens", 2)
    assert code == 0, err
    assert json.loads(out)["tokens"] == video.grid.tokens


def test_another_folder_of_the_same_name_is_another_video(capsys, images, tmp_path):
    output = tmp_path / "kept.safetensors"
    assert run(capsys, "compress", images, "-o", output, "--ratio", 0.5, "--method", "evs", "--frames", 2)[0] == 0
    shutil.copytree(images, tmp_path / "show")
    (tmp_path / "show" / "5.png").write_bytes((images / "4.png").read_bytes())
    said = refused(capsys, "view", output, "-o", tmp_path / "page.html", "--video", tmp_path / "show")
    assert "is not the video that the tokens came from" in said


def test_folders_below_a_folder_are_items_with_their_own_times(capsys, images, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(images, tmp_path / "all" / name)
    Image.fromarray(paint(99)).save(tmp_path / "all" / "b" / "6.png")
    code, out, err = run(
        capsys, "encode", tmp_path / "all", "-o", tmp_path / "out", "--frames", 2, "--image-fps", 3, "--workers", 0,
        "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["success"] == 2
    assert json.loads(out)["video_seconds"] == pytest.approx(13 / 3, abs=0.01)


def test_a_rate_of_images_is_refused_where_there_are_none(capsys, clip, tmp_path):
    said = refused(capsys, "encode", clip, "-o", tmp_path / "t.safetensors", "--image-fps", 3)
    assert "is not a folder or a list of images" in said
