"""`stsimdiff encode`: what it writes, reports and refuses."""

from __future__ import annotations

import json

import pytest

from tests.support.clip_factory import CLOSED_GOP, render, spoil
from tests.support.commands import refused, run


@pytest.fixture(scope="module")
def encoded(clip, tmp_path_factory):
    """A function that encodes the clip and returns the JSON report and the output file."""
    folder = tmp_path_factory.mktemp("encoded")

    def encode(capsys, *more):
        code, out, err = run(capsys, "encode", clip, "-o", folder / "t.safetensors", "--force", "--json", *more)
        assert code == 0, err
        return json.loads(out), folder / "t.safetensors"

    return encode


# --- What it reports --------------------------------------------------------------------------------------------------


def test_the_json_report_is_one_line(capsys, clip, tmp_path):
    _, out, _ = run(capsys, "encode", clip, "-o", tmp_path / "t", "--frames", 5, "--json")
    assert out.count("\n") == 1


def test_the_grid_has_a_slot_for_every_frame(capsys, encoded):
    data, _ = encoded(capsys, "--frames", 5)
    assert data["grid"][0] == len(data["slot_seconds"]) == 5
    assert data["slot_seconds"][0] == 0


def test_tokens_are_counted_over_the_grid(capsys, encoded):
    data, _ = encoded(capsys, "--frames", 5)
    slots, rows, columns = data["grid"]
    assert data["tokens"] == slots * rows * columns


def test_every_step_is_timed(capsys, encoded):
    data, _ = encoded(capsys, "--frames", 5)
    assert {"decode", "encode", "write"} <= set(data["stage_seconds"])


def test_bytes_are_the_size_of_the_file(capsys, encoded):
    data, file = encoded(capsys, "--frames", 5)
    assert data["bytes"] == file.stat().st_size


def test_a_clip_with_fewer_frames_than_asked_gives_what_it_has(capsys, encoded):
    assert encoded(capsys, "--frames", 100)[0]["grid"][0] == 24


def test_the_number_of_workers_does_not_change_the_file(capsys, encoded):
    files = [encoded(capsys, "--frames", 12, "--decode-workers", n)[1].read_bytes() for n in (1, 2, 5)]
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("command", ["compress", "ask"])
def test_other_commands_take_workers_for_a_video(capsys, clip, tmp_path, command):
    more = ["-o", tmp_path / "c", "--ratio", 0.5] if command == "compress" else ["What happens?", "--json"]
    code, _, err = run(capsys, command, clip, *more, "--frames", 8, "--decode-workers", 2)
    assert code == 0, err


def test_two_runs_give_the_same_bytes(capsys, clip, tmp_path):
    for name in ("a", "b"):
        assert run(capsys, "encode", clip, "-o", tmp_path / name, "--frames", 8)[0] == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# --- Frames that cannot be decoded ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A video of 48 frames, some of which cannot be decoded."""
    video = render(tmp_path_factory.mktemp("spoilt") / "v.mp4", range(48), options=CLOSED_GOP)
    spoil(video, 20)
    return video


def test_frames_that_cannot_be_decoded_are_left_out(capsys, spoilt, tmp_path):
    code, out, _ = run(capsys, "encode", spoilt, "-o", tmp_path / "t", "--frames", 48, "--json")
    data = json.loads(out)
    assert code == 0 and data["missing_seconds"]
    assert data["grid"][0] + len(data["missing_seconds"]) == 48
    assert not set(data["missing_seconds"]) & set(data["slot_seconds"])


def test_the_times_of_missing_frames_are_in_the_warning(capsys, spoilt, tmp_path):
    _, out, err = run(capsys, "encode", spoilt, "-o", tmp_path / "t", "--frames", 48, "--json")
    assert "warning" in json.loads(err.splitlines()[-1])
    for second in json.loads(out)["missing_seconds"]:
        assert f"{second:.3f}" in err


def test_inspect_counts_the_missing_frames(capsys, spoilt, tmp_path):
    _, out, _ = run(capsys, "encode", spoilt, "-o", tmp_path / "t", "--frames", 48, "--json")
    assert f"{len(json.loads(out)['missing_seconds'])} frames" in run(capsys, "inspect", tmp_path / "t")[1]


# --- Evidence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "stored"), [("st-simdiff:importance=saliency", ["saliency"]), ("fastv", [])])
def test_evidence_auto_stores_what_a_method_needs(capsys, encoded, method, stored):
    assert encoded(capsys, "--frames", 4, "--evidence", "auto", "--method", method)[0]["evidence"] == stored


@pytest.mark.parametrize(
    "arguments", [["--evidence", "auto"], ["--method", "fastv"], ["--evidence", "keys", "--method", "fastv"]]
)
def test_evidence_auto_and_a_method_come_together(capsys, clip, tmp_path, arguments):
    assert "must be given together" in refused(capsys, "encode", clip, "-o", tmp_path / "x", *arguments)


def test_unknown_evidence_is_refused(capsys, clip, tmp_path):
    assert "no evidence named" in refused(capsys, "encode", clip, "-o", tmp_path / "x", "--evidence", "salience")


# --- What it refuses --------------------------------------------------------------------------------------------------


@pytest.fixture
def asked_of_the_hub(monkeypatch) -> list[tuple[str, str | None]]:
    """The names and revisions that are asked of a Hub that cannot be reached."""
    asked = []

    def download(name, revision, allow_patterns):
        asked.append((name, revision))
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return asked


def test_a_revision_is_looked_for_and_named(capsys, clip, tmp_path, asked_of_the_hub):
    arguments = ["encode", clip, "-o", tmp_path / "t", "--revision", "v1.1", "--model", "owner/name"]
    assert "owner/name at revision v1.1 is not in the cache" in refused(capsys, *arguments, code=1)
    assert asked_of_the_hub == [("owner/name", "v1.1")]
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("model", [[], ["--model", "tiny"], ["--model", "."]])
def test_a_revision_of_a_model_that_is_not_on_the_hub_is_refused(capsys, clip, tmp_path, asked_of_the_hub, model):
    err = refused(capsys, "encode", clip, "-o", tmp_path / "t", "--revision", "v1.1", *model)
    assert "--revision works with Hub checkpoints only" in err
    assert asked_of_the_hub == []
    assert not (tmp_path / "t").exists()


def test_an_existing_output_is_kept_unless_forced(capsys, clip, tmp_path):
    path = tmp_path / "out.safetensors"
    path.write_text("precious")
    assert "exists" in refused(capsys, "encode", clip, "-o", path)
    assert path.read_text() == "precious"
    assert run(capsys, "encode", clip, "-o", path, "--frames", 2, "--force")[0] == 0
    assert path.stat().st_size > len("precious")


@pytest.mark.parametrize("content", [b"", b"not a video at all", bytes(5000)])
def test_a_file_that_is_not_a_video_is_an_error_without_output(capsys, tmp_path, content):
    (tmp_path / "v.mp4").write_bytes(content)
    refused(capsys, "encode", tmp_path / "v.mp4", "-o", tmp_path / "t", code=1)
    assert not (tmp_path / "t").exists()


def test_frames_and_fps_are_not_given_together(capsys, clip, tmp_path):
    err = refused(capsys, "encode", clip, "-o", tmp_path / "t", "--frames", 4, "--fps", 2)
    assert "cannot be used together" in err


@pytest.mark.parametrize("video", ["no.mp4", "."])
def test_a_missing_file_and_a_folder_are_refused(capsys, tmp_path, video):
    refused(capsys, "encode", tmp_path / video, "-o", tmp_path / "t")
