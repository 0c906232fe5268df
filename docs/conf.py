"""How the pages in this folder become a site: `make docs`."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from typing import Any

from stsimdiff_cli import __version__

project = "stsimdiff"
author = "The stsimdiff authors"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["pictures"]
suppress_warnings = ["myst.header"]  # benchmarks/RESULTS.md and others are included whole
myst_heading_anchors = 3
myst_enable_extensions = ["html_image"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
add_module_names = False
default_role = "code"  # docstrings write `name` for code

html_theme = "furo"
html_title = f"stsimdiff {release}"
html_theme_options = {"source_edit_link": None}

#: A field with its comment, as the records document their fields.
FIELD = re.compile(r"^    (\w+): [^#\n]*#:? (.+)$", re.M)


def fields_with_comments(app: Any, what: str, name: str, cls: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Add to a dataclass's description its fields, with the comments that follow them in the source."""
    if what != "class" or not is_dataclass(cls):
        return
    comments = dict(FIELD.findall(inspect.getsource(cls)))
    names = [item.name for item in fields(cls) if item.name in comments]
    lines += ["", *(f":param {field}: {comments[field]}" for field in names), ""]


#: Pages that show a file from elsewhere; links to that file, which are right in the repository, lead to the page.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../benchmarks/RESULTS.md": "results.md",
    "../stsimdiff_cli/models/tiny/README.md": "tiny.md",
}


def links_within_the_site(app: Any, page: str, source: list[str]) -> None:  # noqa: ARG001
    """Turn links to files outside this folder into links to the pages that show them."""
    for file, own in PAGES.items():
        source[0] = source[0].replace(f"]({file}", f"]({own}")


def links_of_included(app: Any, file: Any, page: str, source: list[str]) -> None:  # noqa: ARG001
    """The same for a file that a page shows."""
    links_within_the_site(app, page, source)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", links_within_the_site)
    app.connect("include-read", links_of_included)
    app.connect("autodoc-process-docstring", fields_with_comments)
