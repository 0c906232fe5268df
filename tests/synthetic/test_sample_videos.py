"""The sample videos are what the generator renders, and their README has the true answers."""

import re
from pathlib import Path

import av
import numpy as np
import pytest

from sample_videos.render import SAMPLES, ZOOM, main, render_sample

FOLDER = Path(__file__).parents[2] / "sample_videos"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_video_shows_its_clip(name):
    clip = render_sample(name)
    with av.open(str(FOLDER / f"{name}.mp4")) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert frames.shape == (32, 112 * ZOOM, 112 * ZOOM, 3)
    small = frames[:, ::ZOOM, ::ZOOM].astype(float)
    assert np.abs(small - clip.frames).mean() < 6  # levels of 255; compression and 4:2:0 cost some


@pytest.mark.parametrize("name", SAMPLES)
def test_the_readme_has_the_questions_and_answers_of_a_sample(name):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    section = text.split(f"## {name}.mp4")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*\?) \| (.*) \|$", section, re.MULTILINE)
    clip = render_sample(name)
    assert rows == [(question.text, question.answer) for question in clip.questions]
    assert f"seed {SAMPLES[name][1]}" in section


def test_samples_are_rendered_into_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["render.py", str(tmp_path)])
    main()
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(SAMPLES)
    assert "  What happens in this video? a black square flashes" in capsys.readouterr().out
