"""run.json: what decides the bytes of outputs, kept and compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stsimdiff_cli.archive.job import Job
from stsimdiff_cli.archive.settings import RUN, differences, keep, read, settings_of
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.video import Sampling

JOB = Job(Path("kept"), method=parse_method("st-simdiff"), ratio=parse_ratio("0.3"))
OTHERS = {
    "ratio was 0.3, is now 0.5": replace(JOB, ratio=parse_ratio("0.5")),
    "frames was 32, is now 8": replace(JOB, sampling=Sampling(8)),
    "prompt was 'What happens in this video?', is now Who?": replace(JOB, prompt="Who?"),
    "dtype was float32, is now bfloat16": replace(JOB, runtime=Runtime(dtype="bfloat16")),
    "method was st-simdiff, is now random": replace(JOB, method=parse_method("random")),
    "tau_sim was 0.8, is now 0.9": replace(JOB, method=parse_method("st-simdiff:tau_sim=0.9")),
    "store was not set, is now int4": replace(JOB, store="int4"),
    "command was compress, is now encode": replace(JOB, method=None, ratio=None),
}


def settings(job=JOB, by_content=False):
    return settings_of(job, by_content, videos=True)


@pytest.mark.parametrize("text", OTHERS)
def test_other_settings_are_refused_with_the_difference(tmp_path, text):
    keep(tmp_path, settings(), ["videos"])
    with pytest.raises(RequestError) as caught:
        keep(tmp_path, settings(OTHERS[text]), ["videos"])
    assert text in str(caught.value)
    assert "--force" in caught.value.hint


def test_a_parameter_that_differs_is_named_alone(tmp_path):
    found = differences(settings(), settings(OTHERS["tau_sim was 0.8, is now 0.9"]))
    assert found == ["tau_sim was 0.8, is now 0.9"]


def test_items_by_content_are_other_items(tmp_path):
    assert differences(settings(), settings(by_content=True)) == [
        "what tells items apart was 'path, size and time', is now content"
    ]


@pytest.mark.parametrize("job", [
    replace(JOB, out=Path("elsewhere")),
    replace(JOB, runtime=Runtime(device="cpu", dtype="float32")),
    replace(JOB, ratio=parse_ratio("0.30")),
    replace(JOB, prompt="What happens in this video?"),
    replace(JOB, model="tiny"),
])  # fmt: skip
def test_the_same_settings_in_other_words_are_the_same(job):
    assert settings(job).id == settings().id


def test_the_first_start_writes_and_the_second_changes_nothing(tmp_path):
    keep(tmp_path, settings(), ["videos"])
    before = (tmp_path / RUN).read_bytes()
    keep(tmp_path, settings(), ["others"])
    assert (tmp_path / RUN).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [RUN]
    assert read(tmp_path).id == settings().id == json.loads(before)["settings_id"]


def test_force_replaces_them(tmp_path):
    keep(tmp_path, settings(), ["videos"])
    keep(tmp_path, settings(OTHERS["ratio was 0.3, is now 0.5"]), ["videos"], replace=True)
    assert read(tmp_path).values["ratio"] == "0.5"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "stsimdiff.run/1", "settings": 3, "model": null}'])
def test_a_damaged_run_json_is_refused(tmp_path, text):
    (tmp_path / RUN).write_text(text)
    with pytest.raises(RequestError, match="damaged") as caught:
        keep(tmp_path, settings(), ["videos"])
    assert caught.value.hint


def test_a_folder_without_one_is_not_ours(tmp_path):
    with pytest.raises(RequestError, match="is not a folder that stsimdiff wrote"):
        read(tmp_path)
