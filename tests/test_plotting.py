"""The style of every picture: light and dark, small files, nothing half written."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stsimdiff_cli import plotting
from stsimdiff_cli.errors import RequestError


def draw(path, **options) -> np.ndarray:
    """A picture of one curve: its pixels (height, width, 3)."""
    with plotting.picture(path, 4, 3, **options) as figure:
        axes = figure.subplots()
        plotting.curve(axes, 1, [0, 1], [1, 2], [1, 2], [1, 2])
        plotting.plain_axes(axes, "title", "frames", "seconds")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(("name", "paper"), [("a.png", (255, 255, 255)), ("a.dark.png", (22, 24, 28))])
def test_the_name_chooses_light_or_dark_paper(tmp_path, name, paper):
    pixels = draw(tmp_path / name)
    assert pixels[0, 0].tolist() == list(paper)
    assert (pixels == np.array(paper)).all(-1).mean() > 0.8


def luminance(colour: str) -> float:
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("dark", "least"), [(False, 2.0), (True, 4.5)])
def test_curves_and_texts_stand_out_from_the_paper(dark, least):
    with plotting.drawn(1, 1, 50, dark=dark):
        chosen = plotting.shades()
    assert min(contrast(colour, chosen.paper) for colour in chosen.curves) >= least
    assert contrast(chosen.ink, chosen.paper) >= 12 and contrast(chosen.caption, chosen.paper) >= 7
    assert len(set(chosen.curves)) == len(plotting.COLOURS)


def test_a_picture_of_few_colours_is_smaller_and_looks_the_same(tmp_path):
    few, full = draw(tmp_path / "few.png"), draw(tmp_path / "full.png", few_colours=False)
    assert np.abs(few.astype(int) - full).max() < 16
    assert (tmp_path / "few.png").stat().st_size < 0.7 * (tmp_path / "full.png").stat().st_size


@pytest.mark.parametrize("name", ["a.txt", "png", "a.jpg"])
def test_a_name_without_a_known_ending_is_refused(tmp_path, name):
    with pytest.raises(RequestError, match=rf"{name} does not end in \.png, \.svg or \.pdf\."):
        plotting.check_plot(tmp_path / name)


def test_a_picture_that_fails_is_not_written(tmp_path):
    with pytest.raises(ZeroDivisionError), plotting.picture(tmp_path / "a.png", 4, 3):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
