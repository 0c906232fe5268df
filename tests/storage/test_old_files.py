"""Files written before 0.2, whose header does not say which part of a frame the grid covers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.loading.presets import PRESETS
from stsimdiff_cli.models.loading.random_weights import write_dummy
from stsimdiff_cli.records import Coverage, ModelRef, TokenGrid
from stsimdiff_cli.storage.old_files import coverage_by_family
from stsimdiff_cli.storage.reading import StoredVideo
from stsimdiff_cli.storage.writing import save_tokens
from tests.support.checkpoints import CHECKPOINTS
from tests.support.tokens import make_tokens

#: Rows and columns of the grid of each preset.
GRIDS = {
    "llava-video-7b": (14, 15),
    "nvila-8b-video": (16, 16),
    "llava-onevision-0.5b": (14, 14),
    "qwen2.5-vl-7b": (26, 46),
    "qwen2.5-vl-3b": (26, 46),
    "qwen3-vl-8b": (22, 40),
    "internvl3-8b": (16, 16),
    "smolvlm2-2.2b": (9, 9),
    "smolvlm2-256m": (8, 8),
}
SIZES = [(1280, 720), (720, 1280), (641, 479), (336, 336)]


def grid_of(family: str, rows: int, columns: int, size: tuple[int, int] = (1280, 720)) -> TokenGrid:
    grid = make_tokens((1, rows, columns)).grid
    source = replace(grid.source, width=size[0], height=size[1])
    return replace(grid, model=ModelRef("model", family, None, "f"), source=source)


def header_of(path: Path) -> dict:
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["stsimdiff"])


def save_as_before(path: Path, grid: TokenGrid) -> None:
    """A tokens file as 0.1.0 wrote it."""
    save_tokens(path, replace(make_tokens(grid.shape), grid=grid))
    header = header_of(path)
    del header["grid"]["coverage"]
    save_file(load_file(path), path, metadata={"stsimdiff": json.dumps(header)})


@pytest.mark.parametrize("preset", PRESETS)
def test_each_family_states_what_its_older_files_are_taken_to_cover(tmp_path, preset):
    family = open_family(str(write_dummy(tmp_path, preset)))
    old = coverage_by_family(grid_of(family.name, *GRIDS[preset]))
    assert family.coverage_of(1280, 720) == old.coverage


@pytest.mark.parametrize("size", SIZES)
def test_the_middle_square_is_the_same_in_older_files(tmp_path, size):
    family = open_family(str(CHECKPOINTS["llava_next_video"](tmp_path)))
    assert family.coverage_of(*size) == coverage_by_family(grid_of(family.name, 4, 4, size)).coverage


def test_pooling_by_averages_leaves_out_the_last_patch(tmp_path):
    folder = Path(write_dummy(tmp_path, "llava-video-7b"))
    config = json.loads((folder / "config.json").read_text()) | {"mm_spatial_pool_mode": "average"}
    (folder / "config.json").write_text(json.dumps(config))
    coverage = open_family(str(folder)).coverage_of(1280, 720)
    assert coverage == coverage_by_family(grid_of("llava_video", 13, 14)).coverage
    assert coverage == Coverage(right=26 * 14 / 384, bottom=26 * 14 / 384, blank_columns=1)


def test_tokens_of_3_x_3_patches_extend_past_the_frame(tmp_path):
    folder = Path(write_dummy(tmp_path, "nvila-8b-video"))
    config = json.loads((folder / "config.json").read_text())
    config["mm_projector_cfg"] = {"mm_projector_type": "mlp_downsample_3x3_fix"}
    (folder / "config.json").write_text(json.dumps(config))
    coverage = open_family(str(folder)).coverage_of(1280, 720)
    assert coverage == coverage_by_family(grid_of("nvila", 11, 11)).coverage
    assert coverage == Coverage(right=33 * 14 / 448, bottom=33 * 14 / 448)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("qwen2_5_vl", Coverage()),
        ("llava_next_video", Coverage(0.21875, 0.0, 0.78125, 1.0)),
        ("llava_video", Coverage(right=27 * 14 / 384, bottom=27 * 14 / 384, blank_columns=1)),
    ],
)
def test_a_file_without_coverage_opens_with_that_of_its_family(tmp_path, family, expected):
    grid = grid_of(family, 14, 15)
    save_as_before(tmp_path / "old", grid)
    assert StoredVideo(tmp_path / "old").grid == replace(grid, coverage=expected)
    assert StoredVideo(tmp_path / "old").tokens().grid.coverage == expected


def test_a_file_with_coverage_is_believed_whatever_its_family(tmp_path):
    for coverage in (Coverage(), Coverage(0.1, 0.2, 0.9, 0.8, 2)):
        grid = replace(grid_of("llava_next_video", 4, 5), coverage=coverage)
        save_tokens(tmp_path / "new", replace(make_tokens(grid.shape), grid=grid))
        assert StoredVideo(tmp_path / "new").grid == grid


def test_only_what_differs_from_the_whole_frame_is_written(tmp_path):
    for coverage, written in ((Coverage(), {}), (Coverage(left=0.25, right=0.75), {"left": 0.25, "right": 0.75})):
        grid = replace(grid_of("qwen2_5_vl", 4, 5), coverage=coverage)
        save_tokens(tmp_path / "new", replace(make_tokens(grid.shape), grid=grid))
        assert header_of(tmp_path / "new")["grid"]["coverage"] == written
