"""The API pages are built by the README's line, and every link inside them leads somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs["id"]} if attrs.get("id") else set()
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])


@pytest.mark.skipif(importlib.util.find_spec("pdoc") is None, reason="needs pdoc: pip install '.[docs]'")
def test_the_api_pages_build_and_their_links_lead_somewhere(tmp_path):
    line = re.search(r"^.*&& \S*python (.*-m pdoc .*)$", README.read_text(), re.M)[1]
    words = shlex.split(line)
    assert words[-2:] == ["-o", "api"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path): Page(path.read_text()) for path in tmp_path.rglob("*.html")}
    assert not done.stderr
    for name in ("nn", "ops", "optim", "data", "models", "parallel", "insight", "training", "saving", "interchange"):
        assert Path(f"api/tinynet/{name}.html") in pages
    broken = []
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(unquote(link))
            if "://" in target or target.startswith("mailto:"):
                continue
            there = path if not target else Path(os.path.normpath(path.parent / target))
            # pdoc shows what a class inherits at its base alone, and links to it at the class: that will do.
            if there not in pages or not {anchor, anchor.rpartition(".")[0] or anchor} & pages[there].anchors:
                broken.append(f"{path}: {link}")
    assert not broken, broken[:10]


def test_every_link_of_the_readmes_leads_somewhere():
    for readme in (README, ROOT / "kernels" / "README.md", ROOT / "benchmarks" / "README.md"):
        for target in re.findall(r"\]\(([^)#\s]+)\)", readme.read_text()):
            assert "://" in target or (readme.parent / target).exists(), f"{readme.name}: {target}"
