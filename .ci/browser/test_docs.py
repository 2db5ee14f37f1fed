"""The built docs in a browser: every page is whole, asks nothing of another host, and fits a phone;
the search finds.
"""

from pathlib import Path

import pytest
from pages import faults, names, opened, served

HTML = Path(__file__).parents[2] / "docs" / "_build" / "html"
PAGES = names(HTML)


@pytest.fixture(scope="session")
def site():
    with served(HTML) as found:
        yield found


def test_the_docs_are_built():
    assert {"docs/index.html", "search.html", "docs/notebooks/fig2.html"} <= set(PAGES), "make docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(page, site, name):
    assert faults(page, site, name) == []


def test_formulas_are_there_to_be_checked(page, site):
    opened(page, site.address + "docs/theory.html")
    assert page.locator("mjx-container").count() > 10


@pytest.mark.parametrize(("word", "found"), [("collapse", True), ("xyzzyq", False)])
def test_the_search_finds_what_is_there(page, site, word, found):
    opened(page, site.address + "search.html?q=" + word)
    page.wait_for_function("() => /finished|did not match/.test(document.body.innerText)")
    links = page.locator("#search-results li a")
    assert (links.count() > 0) == found
    if found:
        links.first.click()
        page.wait_for_load_state()
        assert word in page.locator("body").inner_text().lower()


SPOILED = {
    "status 404": '<script src="none.js"></script>',
    "another host": '<img src="https://example.org/a.png" style="display: none">',
    "console": "<script>console.error('no')</script>",
    "error": "<script>nothing.there</script>",
    "formula": r'<span class="math">\(\frac{1}\)</span>',
    "picture": '<img src="../_static/documentation_options.js">',
    "link": '<a href="none.html">to nowhere</a>',
    "too wide": '<div style="width: 500px; height: 1em"></div>',
}


def spoiled(site, more):
    """A page with formulas, and this at the end of its text."""
    text = (site.folder / "docs" / "theory.html").read_text()
    assert text.count("</article>") == 1
    site.extra["/docs/spoiled.html"] = text.replace("</article>", more + "</article>").encode()
    return "docs/spoiled.html"


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        *SPOILED.items(),
        ("link", '<a href="#nowhere">no such place</a>'),
        ("link", '<a href="theory.html#nowhere">no such place there</a>'),
        ("too wide", '</article></div></div></div><div style="width: 500px; height: 1em"></div>'),
        ("formula", r'<span class="math">\(\nosuchcommand\)</span>'),
        ("formula", '<span class="math">x^2, never drawn</span>'),
        ("another host", '<script src="https://cdn.example.org/a.js"></script>'),
        ("another host", "<script>fetch('https://example.org').catch(() => {})</script>"),
    ],
)
def test_a_fault_of_a_page_is_found(page, site, kind, more):
    """Control: each fault alone, on a page that has no other."""
    found = faults(page, site, spoiled(site, more))
    assert found
    assert {fault.partition(": ")[0] for fault in found} <= {kind, "picture"}
    assert any(fault.startswith(kind) for fault in found)


def test_what_is_wide_in_a_box_of_its_own_is_no_fault(page, site):
    box = '<div style="overflow-x: auto"><div style="width: 900px">wide</div></div>'
    assert faults(page, site, spoiled(site, box)) == []
