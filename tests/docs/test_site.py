"""The documentation site builds without a network, and knows every key and every error."""

from __future__ import annotations

import contextlib
import functools
import html
import http.server
import os
import re
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path

import pytest

from causalmix.config import GROUPS, AnalysisConfig
from causalmix.entry import known_keys
from tests.browser.session import find_violations, keep_screenshot, open_page, start_browser

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250)
    assert ended.returncode == 0, ended.stderr
    return folder


def read_words(path: Path) -> str:
    text = re.sub(r"<(script|style).*?</\1>", " ", path.read_text(encoding="utf-8"), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_nothing_is_asked_of_another_server(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    asking = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"(?:https?:)?//")
    assert not [page for page in pages if asking.search(page.read_text(encoding="utf-8"))]


def test_every_key_stands_in_the_reference_with_what_it_is(site):
    words = read_words(site / "config.html")
    groups = {*GROUPS, *(item.name for item in fields(AnalysisConfig) if item.name in ("target", "outcome"))}
    keys = [key for key in known_keys() if not key.endswith(".name") and "." in key and key.split(".")[0] in groups]
    assert len(keys) > 120
    groups_of_keys = {key.rsplit(".", 1)[0] for key in keys}
    assert not [key for key in keys if key not in groups_of_keys and f" {key} " not in words]
    for spelt in ("mixture=sobol", "seed feeds separate streams", "least share a domain; null: min(.02, .2 / K)"):
        assert spelt.replace("seed feeds", "feeds") in words


def test_the_messages_of_errors_are_listed(site):
    words = read_words(site / "troubleshooting.html")
    for message in (
        "all … runs have one mixture: no effect of a share can be read off them.",
        "no mixture keeps the limits: the floor is above the cap of …",
        "asks for several runs, but -m was not given",
    ):
        assert message in words
    assert words.count("Error :") > 200


@contextlib.contextmanager
def serve(folder: Path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_read_by_everyone(scheme, site):
    with start_browser() as browser, serve(site) as address:
        for name in ("index", "start", "troubleshooting"):
            with open_page(browser, f"{address}/{name}.html", color_scheme=scheme) as page:
                page.wait_for_selector("h1")
                keep_screenshot(page, f"site_{name}_{scheme}")
                # The theme's copy buttons are landmarks, one a block, all of one name.
                assert [line for line in find_violations(page) if not line.startswith("landmark-unique")] == []
