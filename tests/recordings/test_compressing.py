"""A folder of tokens compressed segment by segment: the budget of the whole at every moment, and what is exact."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.graph.edges import change_signal, edge_weights, weakest_edges, without_first
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.methods.evs import temporal_difference
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import compress_tokens
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.recordings.compressing import append_kept
from stsimdiff_cli.records import Kind
from stsimdiff_cli.storage import segment_writer
from stsimdiff_cli.storage.reading import load, open_stored
from stsimdiff_cli.storage.segment_index import read_index
from stsimdiff_cli.storage.sinks import Destination
from tests.support.commands import refused, run
from tests.support.segments import save_segments
from tests.support.tokens import make_tokens

CPU = Runtime(device="cpu")
#: Each slot is compressed by itself, or in blocks whose borders are borders of segments.
EXACT = (
    "uniform",
    "downsample",
    "floc:block=4",
    "fastervlm",
    "prumerge",
    "prumerge+",
    "visionzip",
    "vispruner",
    "vanilla",
)
#: What they do also depends on the slots before.
CUT = ("st-simdiff:importance=centrality", "st-simdiff+", "evs")
WHOLE = ("random", "fastv", "fitprune", "vidcom2", "flashvid", "fastvid", "framefusion")


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(5)
    saliency = torch.rand(32, 4, 5, generator=generator)
    return make_tokens(shape=(32, 4, 5), saliency=saliency, keys=torch.randn(32, 4, 5, 2, 6, generator=generator))


def keep(folder, out, ratio, method, store=None):
    return append_kept(folder, Destination(out, store), parse_ratio(ratio), parse_method(method), CPU)


def test_every_method_is_one_or_the_other():
    spelled = {text.partition(":")[0] for text in (*EXACT, *CUT, *WHOLE)}
    assert spelled == set(METHODS)
    for text in WHOLE:
        assert not parse_method(text).by_segment


@pytest.mark.parametrize("method", EXACT)
def test_exact_methods_choose_what_they_choose_from_one_file(tmp_path, tokens, method):
    folder = save_segments(tmp_path / "tape", tokens, [8, 16, 4, 4])
    keep(folder, tmp_path / "kept", "0.25", method)  # 0.25 of every slot is a whole number of tokens
    joined, whole = load(tmp_path / "kept"), compress_tokens(tokens, "0.25", method, CPU)
    assert torch.equal(joined.index, whole.index) and joined.grid == whole.grid
    assert torch.equal(joined.features.tensor(), whole.features.tensor())
    assert joined.method == whole.method
    assert joined.counts == whole.counts


@pytest.mark.parametrize("method", [*EXACT[:-1], *CUT])
@pytest.mark.parametrize("ratio", ["0.3", "0.037", "1/7"])
def test_the_budget_holds_at_every_moment_that_is_flushed(tmp_path, tokens, monkeypatch, method, ratio):
    folder, exact, moments = save_segments(tmp_path / "tape", tokens, [1, 7, 1, 16, 4, 3]), Fraction(ratio), []
    write = segment_writer.write_index

    def flushed(path, index):
        write(path, index)
        stored = open_stored(path)
        moments.append((stored.grid.tokens, len(stored.array("index"))))

    monkeypatch.setattr(segment_writer, "write_index", flushed)
    added = append_kept(folder, Destination(tmp_path / "kept"), parse_ratio(exact), parse_method(method), CPU)
    assert moments and all(kept == math.ceil(exact * seen) for seen, kept in moments)
    assert added.complete == (moments[-1][0] == tokens.grid.tokens)
    assert added.complete or ratio == "0.037"


def test_without_whole_numbers_a_slot_differs_by_a_token_at_most(tmp_path, tokens):
    folder = save_segments(tmp_path / "tape", tokens, [8, 16, 4, 4])
    for method in ("uniform", "fastervlm", "vispruner"):
        keep(folder, tmp_path / method, "0.3", method)
        ours, theirs = load(tmp_path / method).index, compress_tokens(tokens, "0.3", method, CPU).index
        assert len(ours) == len(theirs)
        counts = [torch.bincount(index // 20, minlength=32) for index in (ours, theirs)]
        assert (counts[0] - counts[1]).abs().max() <= 1, method


def test_what_arrives_later_is_added_and_nothing_is_done_twice(tmp_path, tokens):
    folder, out = tmp_path / "tape", tmp_path / "kept"
    for length, total in (([8, 8], 2), ([4], 3), ([], 3), ([12], 4)):
        save_segments(folder, tokens, length)
        before = {path.name: path.read_bytes() for path in out.glob("*.safetensors")}
        added = keep(folder, out, "0.3", "st-simdiff+")
        assert (added.added, len(added.segments)) == (len(length), total)
        assert all((out / name).read_bytes() == data for name, data in before.items())
    save_segments(tmp_path / "again", tokens, [8, 8, 4, 12])
    keep(tmp_path / "again", tmp_path / "at once", "0.3", "st-simdiff+")
    assert (tmp_path / "at once" / "index.json").read_bytes() == (out / "index.json").read_bytes()
    assert read_index(out).complete


@pytest.mark.parametrize(("far", "before"), [(0, 1), (8, 8), (8, 3), (3, 3)])
def test_changes_at_a_border_are_seen_as_in_the_whole(tokens, far, before):
    features, at = tokens.features.tensor(), 16
    whole = edge_weights(tokens.features, far=far)
    part = edge_weights(type(tokens.features)(features[at:]), far=far, past=features[at - before : at])
    assert torch.equal(change_signal(part)[before:], change_signal(whole)[at:])
    own, plain = without_first(part, before), edge_weights(type(tokens.features)(features[at:]))
    for name in ("right", "down", "later", "norm"):
        assert torch.allclose(getattr(own, name), getattr(plain, name)), name
    if not far:
        assert torch.equal(weakest_edges(part)[before:], weakest_edges(whole)[at:])
    assert torch.equal(temporal_difference(features[at:], features[:at]), temporal_difference(features)[at:])


def test_an_event_at_the_first_slot_of_a_segment_is_an_event(tmp_path):
    generator = torch.Generator().manual_seed(1)
    still = make_tokens(shape=(16, 4, 5))
    features = torch.randn(1, 4, 5, 16, generator=generator).repeat(16, 1, 1, 1)
    features[8:, 1, 2] *= -1  # at a border
    tokens = type(still).of(still.grid, {"features": features})
    folder = save_segments(tmp_path / "tape", tokens, [8, 8])
    for method in ("st-simdiff:importance=centrality", "st-simdiff+"):
        keep(folder, tmp_path / method, "0.3", method)
        video = load(tmp_path / method)
        assert video.counts["events"] == 1, method  # a candidate, which the final prune may drop
        if method == "st-simdiff+":
            event = (video.kind & int(Kind.EVENT)) > 0
            assert video.index[event].tolist() == [8 * 20 + 1 * 5 + 2]
        assert video.traces["change"][8] > 0 and video.traces["change"][7] == pytest.approx(0, abs=1e-6)


def test_communities_of_segments_have_numbers_of_their_own(tmp_path, tokens):
    folder = save_segments(tmp_path / "tape", tokens, [8, 16, 8])
    keep(folder, tmp_path / "kept", "0.3", "st-simdiff+")
    video = load(tmp_path / "kept")
    regions = video.traces["regions"]
    parts = [set(part.flatten().tolist()) for part in (regions[:8], regions[8:24], regions[24:])]
    assert set.union(*parts) == set(range(video.counts["communities"]))
    assert sum(map(len, parts)) == video.counts["communities"]
    assert torch.equal(regions.flatten()[video.index].long(), video.community)
    whole_of = video.traces["whole_of"]
    assert len(whole_of) == video.counts["communities"] > len(set(whole_of.tolist()))
    for part in parts:  # communities that were cut are not joined over the border of a segment
        assert set(whole_of[sorted(part)].tolist()) <= part


@pytest.mark.parametrize("method", WHOLE)
def test_methods_that_need_the_whole_are_refused(tmp_path, tokens, method):
    folder = save_segments(tmp_path / "tape", tokens, [16, 16])
    with pytest.raises(RequestError, match="cannot compress segments"):
        keep(folder, tmp_path / "kept", "0.3", method)
    assert not (tmp_path / "kept").exists()


def test_other_settings_and_other_tokens_are_refused(tmp_path, tokens, capsys):
    folder = save_segments(tmp_path / "tape", tokens, [16, 16])
    keep(folder, tmp_path / "kept", "0.3", "uniform")
    for ratio, method, more, words in (
        ("0.2", "uniform", {}, "ratio 0.3, not 0.2"), ("0.3", "evs", {}, "made with method"),
        ("0.3", "uniform", {"store": "int8"}, "store auto, not int8"),
    ):  # fmt: skip
        with pytest.raises(RequestError, match=words):
            keep(folder, tmp_path / "kept", ratio, method, **more)
    other = save_segments(tmp_path / "other", replace(make_tokens(shape=(32, 4, 5), seed=9)), [16, 16])
    with pytest.raises(RequestError, match="compressed from other segments"):
        keep(other, tmp_path / "kept", "0.3", "uniform")
    for args in (
        ("compress", folder, "-o", tmp_path / "x", "--bytes", "2MB", "--append"),
        ("compress", folder, "-o", tmp_path / "x.safetensors", "--ratio", "0.3", "--append"),
        ("compress", tmp_path / "kept", "-o", tmp_path / "x", "--ratio", "0.3", "--append"),
        ("compress", folder, "-o", tmp_path / "kept", "--ratio", "0.3", "--append", "--force"),
        ("compress", folder, folder, "-o", tmp_path / "x", "--ratio", "0.3", "--append"),
        ("compress", tmp_path, "-o", tmp_path / "x", "--ratio", "0.3"),
    ):
        refused(capsys, *args)
        assert not (tmp_path / "x").exists() and not (tmp_path / "x.safetensors").exists()


def test_a_folder_compressed_into_one_file_is_the_file_of_one_video(tmp_path, tokens, capsys):
    folder = save_segments(tmp_path / "tape", tokens, [8, 16, 4, 4])
    for method in (*EXACT, *CUT, "random", "vidcom2"):
        out = tmp_path / "c.safetensors"
        code, text, err = run(
            capsys, "compress", folder, "-o", out, "--ratio", "0.3", "--method", method, "--force", "--json"
        )
        assert code == 0, err
        ours, theirs = load(out), compress_tokens(tokens, "1" if method == "vanilla" else "0.3", method, CPU)
        assert torch.equal(ours.index, theirs.index) and torch.equal(ours.kind, theirs.kind), method
        assert torch.equal(ours.features.tensor(), theirs.features.tensor())
        assert json.loads(text)["kept"] == len(theirs.index)
