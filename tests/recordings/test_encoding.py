"""A video that grows, and one whose encoding is killed: in the end the folder holds what one file would hold."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models import EMBEDDED
from stsimdiff_cli.models.inference.model_cache import ModelCache
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import Context, encode_video
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.recordings.compressing import append_kept
from stsimdiff_cli.recordings.encoding import Tape, append_tokens
from stsimdiff_cli.storage.reading import load, open_stored
from stsimdiff_cli.storage.segment_index import is_segments, read_index
from stsimdiff_cli.storage.sinks import Destination
from stsimdiff_cli.video import Sampling
from tests.support.clip_factory import CLOSED_GOP, OPEN_GOP, SAMPLES, render, spoil
from tests.support.commands import refused, run

CPU, FLASH = Runtime(device="cpu"), SAMPLES / "flash.mp4"


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(ModelCache())


def append(video: Path, folder: Path, context: Context, fps: float = 8, evidence=(), **more):
    return append_tokens(
        video, Tape(folder, **more), EMBEDDED, Sampling(fps=fps), CPU, evidence=evidence, context=context
    )


def one_file(video: Path, context: Context, fps: float = 8):
    return encode_video(video, EMBEDDED, Sampling(fps=fps), CPU, context=context)


def same(folder: Path, whole) -> None:
    tokens = load(folder)
    assert tokens.grid.seconds == whole.grid.seconds and tokens.grid.layout == whole.grid.layout
    assert tokens.grid.source.missing_seconds == whole.grid.source.missing_seconds
    # Frames are encoded with other neighbours in their chunk, so that sums of floats may be in another order.
    assert torch.allclose(tokens.features.tensor(), whole.features.tensor(), atol=1e-4)


@pytest.mark.parametrize("slots", [5, 16, 256])
def test_segments_hold_what_one_file_holds(tmp_path, context, slots):
    added = append(FLASH, tmp_path / "tape", context, slots=slots)
    whole = one_file(FLASH, context)
    same(tmp_path / "tape", whole)
    assert added.complete and added.added == -(-whole.grid.shape[0] // slots)
    assert open_stored(tmp_path / "tape").grid == whole.grid
    again = append(FLASH, tmp_path / "tape", context, slots=slots)
    assert again.added == 0 and again.segments == added.segments


@pytest.mark.parametrize(
    "options", [CLOSED_GOP, OPEN_GOP, {"x264-params": "bframes=0"}], ids=["closed", "open", "plain"]
)
@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_a_video_that_grows_ends_as_if_it_had_been_encoded_at_once(tmp_path, context, options, suffix):
    whole = render(tmp_path / f"whole{suffix}", range(90), options=options, rate=15)
    data, video, folder = whole.read_bytes(), tmp_path / f"tape{suffix}", tmp_path / "tape"
    seen, counts = np.random.default_rng(len(data)).integers(len(data) // 4, len(data), 6), []
    for size in sorted(map(int, seen)):  # wherever the writer happens to be, also within a packet
        video.write_bytes(data[:size])
        added = append(video, folder, context, fps=5, slots=4, growing=True)
        counts.append(sum(segment.frames for segment in added.segments))
        assert not added.complete
    assert counts == sorted(counts) and counts[-1] > counts[0]
    video.write_bytes(data)
    assert append(video, folder, context, fps=5, slots=4).complete
    same(folder, one_file(whole, context, fps=5))


def test_a_recording_that_has_hardly_begun_is_no_error(tmp_path, context):
    video = render(tmp_path / "tape.mkv", range(2), rate=2)
    added = append(video, tmp_path / "tape", context, growing=True)
    assert added.segments == () and not is_segments(tmp_path / "tape")


class Killed(BaseException):
    """Nothing in the program expects it."""


def test_killed_at_every_write_it_goes_on_and_ends_the_same(tmp_path, context, monkeypatch):
    def work(folder: Path) -> None:
        append(FLASH, folder / "tape", context, fps=4, slots=8)
        append_kept(folder / "tape", Destination(folder / "kept"), parse_ratio("0.3"), parse_method("st-simdiff+"), CPU)

    move, count, last, after = Path.replace, 0, 0, False

    def dies(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == last and not after:
            raise Killed
        moved = move(self, target)
        if count == last:
            raise Killed
        return moved

    (tmp_path / "at once").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        work(tmp_path / "at once")
    writes = count
    assert writes == 8  # two folders of two segments, each followed by the index
    files = {file.relative_to(tmp_path / "at once"): file.read_bytes() for file in _files(tmp_path / "at once")}
    for last, after in itertools.product(range(1, writes + 1), (False, True)):
        folder, count = tmp_path / f"{last} {after}", 0
        folder.mkdir()
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Path, "replace", dies)
            work(folder)
        for name in filter(lambda name: is_segments(folder / name), ("tape", "kept")):  # what is there is whole
            open_stored(folder / name).check()
        work(folder)
        assert {file.relative_to(folder): file.read_bytes() for file in _files(folder)} == files, (last, after)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_other_settings_and_other_videos_are_refused(tmp_path, context, capsys):
    folder = tmp_path / "tape"
    append(FLASH, folder, context, slots=16)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for more, words in (
        ({"fps": 4}, "fps 8, not 4"), ({"store": "int8"}, "store auto, not int8"), ({"slots": 8}, "slots 16, not 8"),
        ({"evidence": ("saliency",)}, "evidence none, not saliency"),
    ):  # fmt: skip
        with pytest.raises(RequestError, match=words):
            append(FLASH, folder, context, **{"slots": 16, **more})
    with pytest.raises(RequestError, match=r"made from flash\.mp4"):
        append(SAMPLES / "move.mp4", folder, context, slots=16)
    changed = tmp_path / "flash.mp4"
    changed.write_bytes(FLASH.read_bytes() + b"\0" * 100)
    with pytest.raises(RequestError, match=r"is complete, but flash\.mp4 has changed"):
        append(changed, folder, context, slots=16)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for args in (
        ("encode", FLASH, "-o", tmp_path / "x", "--append"),
        ("encode", FLASH, "-o", tmp_path / "x", "--append", "--frames", "8"),
        ("encode", FLASH, "-o", tmp_path / "x", "--append", "--fps", "2", "--start", "1"),
        ("encode", FLASH, "-o", tmp_path / "x", "--growing", "--fps", "2"),
        ("encode", FLASH, "-o", tmp_path / "x.safetensors", "--fps", "2", "--append"),
        ("encode", FLASH, "-o", tmp_path / "no" / "x", "--fps", "2", "--append"),
        ("encode", FLASH, "-o", changed, "--fps", "2", "--append"),
        ("encode", tmp_path / "nothing.mp4", "-o", tmp_path / "x", "--fps", "2", "--append"),
    ):
        refused(capsys, *args)
        assert not (tmp_path / "x").exists()


def test_a_video_of_the_same_name_that_is_another_is_refused(tmp_path, context):
    video = render(tmp_path / "tape.mkv", range(60), rate=15)
    append(video, tmp_path / "tape", context, fps=5, growing=True)
    render(video, range(200), rate=30, ticks=[4 * i for i in range(200)])
    with pytest.raises(RequestError, match="are not those that"):
        append(video, tmp_path / "tape", context, fps=5, growing=True)


def test_commands_make_ask_and_show_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "encode", FLASH, "-o", "tape", "--fps", "8", "--append", "--json")
    assert code == 0, err
    data = json.loads(out)
    assert (data["segments"], data["slots"], data["complete"]) == (1, 32, True)
    code, out, err = run(capsys, "compress", "tape", "-o", "kept", "--ratio", "0.3", "--append", "--json")
    assert code == 0 and json.loads(out)["kept"] == 471, err
    assert run(capsys, "ask", "kept", "What appears for a moment?")[1] == "black square\n"
    assert run(capsys, "ask", "tape", "What appears for a moment?")[1] == "black square\n"
    code, out, err = run(capsys, "view", "kept", "--video", FLASH, "--tokens", "tape", "-o", "x.html", "--json")
    assert code == 0 and Path("x.html").exists(), err
    assert read_index(Path("kept")).complete


def test_frames_of_which_none_can_be_decoded_do_not_stop_a_folder(tmp_path, context):
    video = spoil(render(tmp_path / "tape.mp4", range(72), options=CLOSED_GOP, rate=12), 24, 60)  # two whole groups
    notes: list[str] = []
    append(video, tmp_path / "tape", replace(context, note=notes.append), fps=12, slots=12)
    whole, segments = one_file(video, context, fps=12), read_index(tmp_path / "tape").segments
    assert len(whole.grid.source.missing_seconds) == 26  # with the picture before each group, which is not trusted
    tokens = load(tmp_path / "tape")
    assert tokens.grid.seconds == whole.grid.seconds
    assert torch.allclose(tokens.features.tensor(), whole.features.tensor(), atol=1e-4)
    assert [segment.frames for segment in segments] == [12, 12, 24, 12]
    assert tokens.grid.source.missing_seconds == whole.grid.source.missing_seconds[:14]
    assert notes == ["The last 12 chosen frames, from 0:05 to 0:05.9, cannot be decoded: no segment has them."]
    assert read_index(tmp_path / "tape").complete
