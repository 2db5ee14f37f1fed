"""What is wrong with built HTML pages: links, anchors and images that lead nowhere, other hosts.

`python -m docs.links FOLDER` prints a line for each fault, and exits with 1 if there is one.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

# What a style sheet loads; data: and its own files are no other host.
_LOADED = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s;]+)")


class Page(NamedTuple):
    """What a page is made of: where it leads, what it loads, and the anchors on it."""

    links: list[str]
    loaded: list[str]
    anchors: set[str]


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.page = Page([], [], {""})

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.page.anchors.update(found[name] for name in ("id", "name") if found.get(name))
        if tag == "a" and "href" in found:
            self.page.links.append(found["href"])
        elif tag == "link" and "stylesheet" in (found.get("rel") or ""):
            self.page.loaded.append(found["href"])
        elif found.get("src"):
            self.page.loaded.append(found["src"])


def parse(text: str) -> Page:
    """The links, loaded files and anchors of a page."""
    reader = _Reader()
    reader.feed(text)
    return reader.page


def read(path: Path) -> Page:
    """The same of a file."""
    return parse(path.read_text())


def wrong(root: Path) -> list[str]:
    """A line for everything on the pages below a folder that leads nowhere, or to another host."""
    pages = {path.resolve(): read(path) for path in root.rglob("*.html")}
    found = [
        f"{path.relative_to(root)}: loads from another host: {url}"
        for path in root.rglob("*.css")
        for url in _LOADED.findall(path.read_text())
    ]
    for path, page in pages.items():
        here = path.relative_to(root.resolve())
        for url in page.loaded:
            if urlsplit(url).netloc:
                found.append(f"{here}: loads from another host: {url}")
        for url in page.links + page.loaded:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not to.is_file():
                found.append(f"{here}: no such file: {url}")
            elif to in pages and unquote(parts.fragment) not in pages[to].anchors:
                found.append(f"{here}: no such anchor: {url}")
    return found


if __name__ == "__main__":
    lines = wrong(Path(sys.argv[1]))
    print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
    sys.exit(bool(lines))
