"""Hooks of mkdocs: pages written from the source, and links to files of the repository that are no pages."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _site.errors_page import write_errors
from _site.schema_page import write_schema

WRITTEN = {"<!-- written: the schema -->": write_schema, "<!-- written: the errors -->": write_errors}
OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)([^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Write what is written from the source; name files outside of docs/ by their path in the repository."""
    for mark, write in WRITTEN.items():
        if mark in markdown:
            markdown = markdown.replace(mark, write())
    return OUTSIDE.sub(lambda found: name_path(found, page), markdown)


def on_post_page(output: str, **_: Any) -> str:
    """Give the theme's search box the name that screen readers miss."""
    box = 'data-md-component="search" role="dialog"'
    return output.replace(box, f'{box} aria-label="Search"')


def name_path(found: re.Match[str], page: Any) -> str:
    """Return a link that leaves docs/ as its text with the file's path; others stay links."""
    n_up, depth = found.group(2).count("../"), page.file.src_uri.count("/")
    if n_up <= depth:
        return found.group(0)
    text, path = found.group(1), found.group(3)
    return f"`{path}`" if text.strip("`") in (path, Path(path).name) else f"{text} (`{path}`)"
