"""`stsimdiff inspect`: what it shows of a tokens file and of a compressed file."""

from __future__ import annotations

import json
import random

import pytest

from tests.support.commands import refused, run


@pytest.mark.parametrize(
    "part", ["clip.mp4", "st-simdiff", "tau_sim=0.6", "events=on", "ratio 0.3", "communities", "per slot"]
)
def test_a_compressed_file_is_described(capsys, kept, part):
    code, out, _ = run(capsys, "inspect", kept)
    assert code == 0
    assert part in out


def test_counts_by_slot_and_by_kind_add_up(capsys, kept):
    data = json.loads(run(capsys, "inspect", kept, "--json")[1])
    assert sum(data["kept_by_slot"]) == data["kept"] == sum(data["kept_by_kind"].values())


def test_the_tensors_of_a_tokens_file_are_listed(capsys, tokens):
    assert json.loads(run(capsys, "inspect", tokens, "--json")[1])["tensors"] == ["features", "keys", "saliency"]


def test_a_missing_file_is_refused(capsys, tmp_path):
    refused(capsys, "inspect", tmp_path / "no.safetensors")


def test_a_flipped_bit_is_noticed_wherever_it_is(capsys, kept, tokens, tmp_path):
    dice = random.Random(0)
    for path in (kept, tokens):
        whole = path.read_bytes()
        for position in [8, len(whole) - 1, *(dice.randrange(len(whole)) for _ in range(20))]:
            damaged = bytearray(whole)
            damaged[position] ^= 1 << dice.randrange(8)
            flipped = tmp_path / "flipped.safetensors"
            flipped.write_bytes(damaged)
            code, _, err = run(capsys, "inspect", flipped)
            assert code == 1, position
            assert "error:" in err
