"""Names the repository in what an index shows of a release: absolute links in README.md, project URLs.

    python .ci/addresses.py https://example.org/owner/stsimdiff v0.2.0

A checkout does not know where it is published, so nothing here is committed: the release workflow, which knows, runs
this before it builds. Links and pictures then lead to the files of that tag, with the paths that GitHub uses.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: A link or picture in Markdown, and one in HTML: what stands before the place, and the place, if it is a path.
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s]+)")
PICTURE = re.compile(r'(src(?:set)?=")(?![a-z]+:)([^"]+)')
#: What project URLs are inserted before, in pyproject.toml.
NEXT = "[project.optional-dependencies]\n"


def absolute(text: str, repository: str, tag: str) -> str:
    """The text of README.md with links and pictures that work anywhere."""
    text = LINK.sub(rf"\g<1>{repository}/blob/{tag}/\g<2>", text)
    return PICTURE.sub(rf"\g<1>{repository}/raw/{tag}/\g<2>", text)


def with_urls(text: str, repository: str, tag: str) -> str:
    """The text of pyproject.toml with project URLs."""
    urls = {
        "Repository": repository,
        "Documentation": f"{repository}/blob/{tag}/docs/index.md",
        "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
    table = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    before, found, after = text.partition(NEXT)
    if not found or "[project.urls]" in text:
        raise SystemExit("expected a pyproject.toml with optional dependencies and without project URLs")
    return f"{before}[project.urls]\n{table}\n{found}{after}"


def main(repository: str, tag: str) -> None:
    """Rewrite both files of this checkout."""
    for name, change in (("README.md", absolute), ("pyproject.toml", with_urls)):
        path = ROOT / name
        path.write_text(change(path.read_text(), repository.rstrip("/"), tag))


if __name__ == "__main__":
    main(*sys.argv[1:])
