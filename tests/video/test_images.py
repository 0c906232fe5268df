"""A folder or a list of images is a video: the same frames, times and messages as those of a file."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from stsimdiff_cli.errors import RequestError, VideoError
from stsimdiff_cli.storage.image_files import image_files, is_images
from stsimdiff_cli.video import Sampling, open_stream, read_frames, scan
from tests.support.clip_factory import paint, read_number

RATE = 8


def write(folder: Path, numbers=range(20), form: str = "{}.png", **options) -> Path:
    folder.mkdir(parents=True)
    for number in numbers:
        Image.fromarray(paint(number)).save(folder / form.format(number), **options)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("images") / "clip")


def pixels(path: Path, sampling: Sampling = Sampling(frames=20, image_fps=RATE), chunk: int = 8) -> torch.Tensor:
    return torch.cat([part.pixels for part in open_stream(path, sampling, chunk).chunks])


def numbers(path: Path, sampling: Sampling = Sampling(frames=20, image_fps=RATE)) -> list[int | None]:
    return [read_number(picture) for picture in pixels(path, sampling).numpy()]


def test_a_folder_is_what_a_video_without_loss_of_the_same_frames_is(images, tmp_path):
    video = tmp_path / "clip.mkv"
    with av.open(str(video), "w") as out:
        stream = out.add_stream("ffv1", rate=RATE)
        stream.height, stream.width = paint(0).shape[:2]
        stream.pix_fmt = "bgr0"
        for number in range(20):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(paint(number), format="rgb24")))
        out.mux(stream.encode(None))
    for sampling in (Sampling(frames=7), Sampling(fps=2.0), Sampling(frames=3, start=0.6, end=1.7)):
        timed = Sampling(sampling.frames, sampling.fps, sampling.start, sampling.end, image_fps=RATE)
        of_file, of_folder = open_stream(video, sampling), open_stream(images, timed)
        for one, other in zip(of_file.chunks, of_folder.chunks, strict=True):
            assert torch.equal(one.pixels, other.pixels)
            assert one.seconds == pytest.approx(other.seconds, abs=1e-3)
        for name in ("seconds", "fps", "frames", "width", "height"):
            assert getattr(of_folder.source, name) == pytest.approx(getattr(of_file.source, name), abs=1e-3)


def test_numbers_in_names_count_as_numbers_and_a_list_has_its_own_order(images, tmp_path):
    assert numbers(images) == list(range(20))
    (tmp_path / "list.txt").write_text("# from the end\n" + "".join(f"{images}/{n}.png\n\n" for n in (10, 2, 7)))
    assert numbers(tmp_path / "list.txt") == [10, 2, 7]


def test_a_list_starts_at_its_folder(images, tmp_path):
    shutil.copytree(images, tmp_path / "in")
    (tmp_path / "list.txt").write_text("in/3.png\nin/4.png\n")
    assert numbers(tmp_path / "list.txt") == [3, 4]


def test_the_checksum_is_that_of_all_bytes_one_image_after_another(images):
    source = open_stream(images, Sampling()).source
    data = b"".join((images / f"{n}.png").read_bytes() for n in range(20))
    assert (source.sha256, source.bytes, source.name) == (hashlib.sha256(data).hexdigest(), len(data), "clip")
    assert source.decoder == "pillow"


def test_without_a_rate_images_are_a_second_apart_and_a_note_says_so(images):
    source = open_stream(images, Sampling()).source
    assert source.seconds == 20
    assert any("--image-fps" in note for note in source.notes)
    assert not open_stream(images, Sampling(image_fps=1.0)).source.notes


@pytest.mark.parametrize(("workers", "chunk"), [(1, 5), (3, 1), (3, 64)])
def test_workers_and_chunks_change_nothing(tmp_path, workers, chunk):
    folder = write(tmp_path / "many", range(120), "{}.jpg", quality=95)
    found = scan(folder)
    parts = list(read_frames(folder, found, range(1, 120, 2), chunk, workers=workers))
    assert [read_number(p) for part in parts for p in part.pixels.numpy()] == list(range(1, 120, 2))


def test_jpegs_have_the_colours_that_ffmpeg_gives_them(tmp_path):
    """Full range and BT.601 at any height, also above 720 lines, where videos without a tag are BT.709."""
    y, x = np.mgrid[:800, :320]
    waves = [127 + 110 * np.sin(x / 40), 127 + 110 * np.cos(y / 30), 127 + 100 * np.sin((x + y) / 50)]
    picture = np.stack(waves, -1).astype(np.uint8)
    for name, options in (("a", {"subsampling": 0}), ("b", {"subsampling": 2}), ("c", {"progressive": True})):
        folder = tmp_path / name
        folder.mkdir()
        Image.fromarray(picture).save(folder / "0.jpg", quality=95, **options)
        with av.open(str(folder / "0.jpg"), format="jpeg_pipe") as file:
            theirs = next(file.decode(video=0)).to_ndarray(format="rgb24").astype(int)
        ours = pixels(folder)[0].numpy().astype(int)
        assert np.abs(ours - theirs).mean() < 1.5  # 0.04; 1.1 where chroma is halved, which both enlarge otherwise
        assert np.abs(ours - picture).mean() <= np.abs(theirs - picture).mean() + 0.01


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_images_are_turned_as_they_ask_for(tmp_path, suffix):
    """EXIF's eight orientations: how the stored rows and columns become the picture that is shown."""
    shown = {
        1: lambda p: p, 2: np.fliplr, 3: lambda p: np.rot90(p, 2), 4: np.flipud, 5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, -1), 7: lambda p: np.rot90(p, 2).swapaxes(0, 1), 8: lambda p: np.rot90(p, 1),
    }  # fmt: skip
    for orientation, turn in shown.items():
        folder = tmp_path / str(orientation)
        folder.mkdir()
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(paint(77)).save(folder / f"0.{suffix}", exif=exif)
        stored = paint(77) if suffix == "tif" else np.asarray(Image.open(folder / f"0.{suffix}").convert("RGB"))
        picture = pixels(folder)[0].numpy()
        assert np.array_equal(picture, turn(stored))
        found = scan(folder)
        assert (found.height, found.width) == picture.shape[:2]


def test_other_kinds_of_values_become_rgb(tmp_path):
    grey = paint(9)[:, :, 0]
    kinds = {
        "grey": Image.fromarray(grey),
        "deep": Image.fromarray(grey.astype(np.uint16) * 257),
        "clear": Image.fromarray(paint(9)).convert("RGBA"),
        "indexed": Image.fromarray(grey).convert("P"),
    }
    for name, image in kinds.items():
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "0.png")
        assert torch.equal(pixels(tmp_path / name)[0], torch.from_numpy(paint(9))), name


def test_a_damaged_image_is_missing_at_its_time_and_the_others_are_there(tmp_path):
    folder = write(tmp_path / "clip", range(6))
    (folder / "0.png").write_bytes(b"")
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:900])
    (folder / "4.png").write_text("no image")
    stream = open_stream(folder, Sampling(image_fps=2.0))
    parts = list(stream.chunks)
    assert [s for part in parts for s in part.missing_seconds] == [0.0, 1.0, 2.0]
    assert [read_number(p) for part in parts for p in part.pixels.numpy()] == [1, 3, 5]


def test_what_is_no_video_has_a_sentence(images, tmp_path):
    folder = write(tmp_path / "mixed", range(3))
    Image.fromarray(paint(1, 64, 64)).save(folder / "2.png")
    with pytest.raises(VideoError, match=r"2.png' has 64 x 64 pixels, and the first image 128 x 96"):
        pixels(folder)
    (folder / "notes.md").write_text("notes")
    with pytest.raises(RequestError, match=r"holds nothing else, and 'notes.md' is not an image"):
        open_stream(folder, Sampling())
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RequestError, match="is a folder, not a video"):
        open_stream(empty, Sampling())
    (empty / "0.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(RequestError, match="a link to nothing"):
        open_stream(empty, Sampling(workers=1))
    (empty / "0.png").unlink()
    os.mkfifo(empty / "0.png")
    with pytest.raises(RequestError, match="a pipe, not an image"):
        open_stream(empty, Sampling())
    (tmp_path / "list.txt").write_text("nowhere.png\n")
    with pytest.raises(RequestError, match=r"nowhere.png' is not there"):
        open_stream(tmp_path / "list.txt", Sampling())
    broken = write(tmp_path / "broken", range(2))
    for file in broken.iterdir():
        file.write_text("no image")
    with pytest.raises(VideoError, match="None of the 2 images"):
        open_stream(broken, Sampling())
    with pytest.raises(RequestError, match="is not a folder or a list of images"):
        open_stream(Path("sample_videos/flash.mp4").absolute(), Sampling(image_fps=3.0))
    with pytest.raises(RequestError, match="images, which Pillow reads"):
        open_stream(images, Sampling(decoder="decord"))
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RequestError, match="images per second are not possible"):
            open_stream(images, Sampling(image_fps=rate))
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.jpg", quality=95)
    with pytest.raises(VideoError, match="is an image, not a video"):
        open_stream(tmp_path / "noise.jpg", Sampling())


def test_an_image_that_changes_between_scan_and_reading_is_an_error(tmp_path):
    folder = write(tmp_path / "clip", range(3))
    stream = open_stream(folder, Sampling())
    Image.fromarray(paint(300)).save(folder / "1.png", compress_level=0)
    with pytest.raises(VideoError, match="changed while it was read"):
        list(stream.chunks)


def test_links_to_images_are_followed_and_what_systems_leave_behind_is_passed_over(images, tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    for number in (5, 6):
        (folder / f"{number}.png").symlink_to(images / f"{number}.png")
    for name in (".DS_Store", "Thumbs.db"):
        (folder / name).write_bytes(b"x")
    assert numbers(folder) == [5, 6]


def test_names_decide_and_a_folder_with_a_folder_in_it_is_none(images, tmp_path):
    assert len(image_files(images)) == 20
    folder = write(tmp_path / "clip", range(2))
    (folder / "more").mkdir()
    assert not is_images(folder)
    assert not is_images(folder / "0.png")
    (tmp_path / "videos.txt").write_text("a.png\nb.mp4\n")
    (tmp_path / "latin.txt").write_bytes(b"\xe9.png\n")
    assert not is_images(tmp_path / "videos.txt")
    assert not is_images(tmp_path / "latin.txt")
    (tmp_path / "none.txt").write_text("# nothing\n")
    assert not is_images(tmp_path / "none.txt")


def test_nothing_is_decoded_twice(images, monkeypatch):
    decoded = []
    load = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda image, *rest: decoded.append(1) or load(image, *rest))
    pixels(images, Sampling(frames=5))
    assert len(decoded) == 5
