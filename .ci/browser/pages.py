"""A folder of pages behind a port of this machine, and what is wrong with a page in a browser."""

import functools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from playwright.sync_api import Page, Request, Route

from docs.links import parse, read

WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}

# All that loads late is waited for: formulas, and pictures further down.
SETTLED = """async () => {
  await window.MathJax?.startup?.promise;
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
}"""
# Sphinx's element of each formula, and MathJax's inside it; an unknown command is drawn in red.
FORMULAS = """() => [...document.querySelectorAll(".math:not(pre *)")].filter(one => {
  const drawn = one.querySelector("mjx-container");
  return !drawn || drawn.querySelector(
    "mjx-merror, [data-mjx-error], [mathcolor=red], [style*='color: red']");
}).map(one => one.textContent.trim().slice(0, 60))"""
PICTURES = "() => [...document.images].filter(one => !one.naturalWidth).map(one => one.src)"
LINKS = "() => [...document.querySelectorAll('a[href]')].map(one => one.href)"
# Boxes that hold the heading, and so the whole page, and are wider than the screen: the document,
# or what the theme lets scroll in its place. What reaches furthest to the right is named.
TOO_WIDE = """() => {
  const wide = [];
  for (let one = document.querySelector("h1"); one; one = one.parentElement) {
    const { overflowX } = getComputedStyle(one);
    const scrolls = one === document.documentElement || overflowX !== "visible";
    if (!scrolls || one.scrollWidth <= one.clientWidth) continue;
    const right = inner => inner.getBoundingClientRect().right;
    const most = [...one.querySelectorAll("*")].reduce((a, b) => right(a) >= right(b) ? a : b);
    wide.push(`${one.tagName} ${one.scrollWidth} of ${one.clientWidth} px: ` +
      most.outerHTML.slice(0, 80));
  }
  return wide;
}"""


class _Handler(SimpleHTTPRequestHandler):
    """Files of a folder, and pages that stand in no file."""

    def __init__(self, *args, extra: Mapping[str, bytes], **kwargs) -> None:
        self.extra = extra
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        page = self.extra.get(urlsplit(self.path).path)
        if page is None:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(page)
        return None

    def log_message(self, *args) -> None:
        pass


class Site:
    """A served folder. `extra` holds pages by path, as "/docs/new.html", beside its files."""

    def __init__(self, folder: Path, address: str, extra: dict[str, bytes]) -> None:
        self.folder, self.address, self.extra = folder, address, extra

    def names(self) -> list[str]:
        """Every page of the folder."""
        return names(self.folder)

    def anchors(self, path: str) -> set[str] | None:
        """The names within a page, "" for the page itself, or None where there is no such file."""
        if path in self.extra:
            return parse(self.extra[path].decode()).anchors
        file = self.folder / path.lstrip("/")
        return _names_in(file / "index.html" if path.endswith("/") else file)

    def leads_nowhere(self, link: str) -> bool:
        """Whether a link to this site misses: no such file, or no such place in it."""
        plain, place = urldefrag(link)
        found = self.anchors(unquote(urlsplit(plain).path))
        return found is None or unquote(place) not in found


@functools.cache
def _names_in(file: Path) -> set[str] | None:
    if not file.is_file():
        return None
    return read(file).anchors if file.suffix == ".html" else {""}


def names(folder: Path) -> list[str]:
    """Every page of a folder of built docs."""
    found = (path.relative_to(folder) for path in folder.rglob("*.html"))
    return sorted(path.as_posix() for path in found if path.parts[0] != "_static")


@contextmanager
def served(folder: Path) -> Iterator[Site]:
    """The folder behind a free port."""
    extra: dict[str, bytes] = {}
    handler = functools.partial(_Handler, directory=str(folder), extra=extra)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Site(folder, f"http://127.0.0.1:{server.server_port}/", extra)
        finally:
            server.shutdown()


class Watch:
    """What a page asks for and complains of: requests that would leave the site are stopped."""

    def __init__(self, page: Page, address: str) -> None:
        self.address, self.faults = address, []
        page.route("**/*", self._route)
        page.on("response", self._response)
        page.on("requestfailed", self._failed)
        page.on("console", lambda said: said.type == "error" and self._add("console", said.text))
        page.on("pageerror", lambda error: self._add("error", str(error)))

    def _add(self, kind: str, text: str) -> None:
        # A request that has failed is named itself.
        if not text.startswith("Failed to load resource"):
            self.faults.append(f"{kind}: {text}")

    def _route(self, route: Route) -> None:
        if route.request.url.startswith((self.address, "data:", "blob:")):
            route.continue_()
        else:
            self._add("another host", route.request.url)
            route.abort("blockedbyclient")

    def _response(self, response) -> None:
        if response.status >= 400:
            self._add(f"status {response.status}", response.url)

    def _failed(self, request: Request) -> None:
        # What a redirect leaves behind is aborted, which is no failure.
        if request.failure not in ("net::ERR_ABORTED", "net::ERR_BLOCKED_BY_CLIENT.Inspector",
                                   "net::ERR_BLOCKED_BY_CLIENT"):  # fmt: skip
            self._add("failed", f"{request.url} ({request.failure})")


def opened(page: Page, address: str) -> None:
    """Open a page and wait until all of it is there, also where it leads on by itself."""
    page.goto(address, wait_until="load")
    page.wait_for_function("() => !document.querySelector('meta[http-equiv=refresh]')")
    page.wait_for_load_state("load")
    page.evaluate(SETTLED)


def faults(page: Page, site: Site, name: str) -> list[str]:
    """All that is wrong with a page, on a wide screen and on a phone's."""
    watch = Watch(page, site.address)
    page.set_viewport_size(WIDE)
    opened(page, urljoin(site.address, name))
    found = [f"formula: {text}" for text in page.evaluate(FORMULAS)]
    found += [f"picture: {address}" for address in page.evaluate(PICTURES)]
    links = {link for link in page.evaluate(LINKS) if link.startswith(site.address)}
    found += [f"link: {link}" for link in sorted(links) if site.leads_nowhere(link)]
    found += [f"link: {link}" for link in page.evaluate(LINKS) if link.startswith("file:")]
    page.set_viewport_size(PHONE)
    found += [f"too wide: {text}" for text in page.evaluate(TOO_WIDE)]
    return watch.faults + found
