"""How `make docs` builds the pages: README, docs/, the reports in figures/, and the API.

The root of the sources is the repository's, so that a link reads the same here and in a checkout.
No page loads anything from another host: MathJax and the theme's files are packed with the pages.
"""

import inspect
import os
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext import autosummary
from sphinx.util import logging

# The library is imported for its docstrings, never run.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "lora-theory"
author = copyright = "The lora-theory authors"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "docs/**", "figures/*.md"]
exclude_patterns = ["docs/_build"]

myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # Tables of notebooks too.

# Docstrings write code and formulas in single backticks, and fields under "Attributes:".
default_role = "code"
suppress_warnings = ["ref.python"]  # A field's name in an annotation that two classes have.
autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
autosummary.WELL_KNOWN_ABBREVIATIONS += ("eq.", "Def.")  # No sentence ends there.
maximum_signature_line_length = 88

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = "lora-theory"
html_copy_source = False
html_show_sphinx = False
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]

log = logging.getLogger(__name__)


def _member(app: Sphinx, what: str, name: str, member: Any, skip: bool, *rest: Any) -> bool | None:
    """Leave out what Python says of tuples' fields, which "Attributes:" describes.

    A public function or class without words is a warning, and so an error of `make docs`.
    """
    if (inspect.getdoc(member) or "").startswith("Alias for field number"):
        return True
    public = not name.startswith("_") and (inspect.isroutine(member) or inspect.isclass(member))
    ours = str(getattr(member, "__module__", "")).partition(".")[0] == "lora_theory"
    if skip and public and ours and not inspect.getdoc(member):
        log.warning("%s: a public name without a docstring", member.__qualname__)
    return None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", _member)
