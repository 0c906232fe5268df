"""What an index shows of a release: links that work there, and project URLs."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AT = ("https://example.org/owner/stsimdiff", "v9.9.9")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("ci_addresses", ROOT / ".ci" / "addresses.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_link_and_picture_of_the_readme_becomes_absolute_and_leads_to_a_file(script):
    before = (ROOT / "README.md").read_text()
    text = script.absolute(before, *AT)
    places = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src(?:set)?="([^"]+)"', text)
    assert len(places) > 15 and all(place.startswith("https://") for place in places)
    own = [place for place in places if place.startswith(AT[0])]
    for place in own:
        kind, tag, file = place.removeprefix(AT[0] + "/").split("/", 2)
        assert tag == AT[1] and (ROOT / file.partition("#")[0]).is_file(), place
        assert kind == ("raw" if file.endswith(".png") else "blob")
    assert sum(place.endswith(".png") for place in own) == 4
    assert script.absolute(text, *AT) == text


def test_project_urls_are_added_once_and_change_nothing_else(script):
    before = (ROOT / "pyproject.toml").read_text()
    after = script.with_urls(before, *AT)
    project = tomllib.loads(after)["project"]
    assert project.pop("urls")["Changelog"] == f"{AT[0]}/blob/v9.9.9/CHANGELOG.md"
    assert project == tomllib.loads(before)["project"]
    with pytest.raises(SystemExit):
        script.with_urls(after, *AT)
