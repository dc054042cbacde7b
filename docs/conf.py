"""How Sphinx makes the site out of the pages in this folder: ``make docs``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from pygments.lexers.special import TextLexer
from pygments.lexers.sql import PostgresLexer

if TYPE_CHECKING:
    from typing import Any

    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SOURCE = PROJECT["urls"]["Source"]

project = PROJECT["name"]
copyright = PROJECT["authors"][0]["name"]  # noqa: A001  Sphinx names it so
version = release = PROJECT["version"]

extensions = ["myst_parser"]
root_doc = "index"
highlight_language = "text"
smartquotes = False  # `--flag` and "quotes" are shown as they are typed
myst_heading_anchors = 6  # the anchors that GitHub gives headings

html_theme = "furo"
html_title = project
html_baseurl = PROJECT["urls"]["Documentation"]
html_copy_source = False
html_show_sphinx = False
html_use_index = False
html_theme_options = {"source_repository": SOURCE, "source_branch": "main", "source_directory": "docs/"}

linkcheck_ignore = [re.escape(SOURCE), re.escape(html_baseurl)]  # tests look whether those files are there

_FENCE_OR_LINK = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1|\]\(((?:\.\./)+[^)#\s]*)", re.DOTALL | re.MULTILINE)
_ITEM = re.compile(r"^- \[[^\]]+\]\(([\w./-]+)\.md\)", re.MULTILINE)
_SECTION = re.compile(r"^(?=## )", re.MULTILINE)


def setup(app: Sphinx) -> None:
    """Connect what follows."""
    app.connect("source-read", link_to_repository)
    app.connect("source-read", make_navigation)
    app.connect("html-page-context", name_language)
    app.connect("html-page-context", help_screen_readers, priority=900)  # after Furo
    for language in ("crontab", "mermaid"):  # which Pygments has no lexers for
        app.add_lexer(language, TextLexer)
    app.add_lexer("sql", PostgresLexer)


def link_to_repository(_app: Sphinx, page: str, source: list[str]) -> None:
    """Lead relative links to files outside this folder, such as samples, to the repository's web pages."""
    folder = (DOCS / page).parent

    def replaced(found: re.Match[str]) -> str:
        path = (folder / (found[2] or ".")).resolve()
        if path.is_relative_to(DOCS) or not path.exists():
            return found[0]
        return f"]({SOURCE}/{'tree' if path.is_dir() else 'blob'}/main/{path.relative_to(ROOT).as_posix()}"

    source[0] = _FENCE_OR_LINK.sub(replaced, source[0])


def make_navigation(_app: Sphinx, page: str, source: list[str]) -> None:
    """Make the lists of links of an index page the site's navigation, a caption for each section.

    So an index page is plain Markdown, and what it does not list is a warning of Sphinx.
    """
    if page.rpartition("/")[2] != "index":
        return
    for part in _SECTION.split(source[0]):
        if pages := _ITEM.findall(part):
            caption = part.partition("\n")[0].strip("# ") if part.startswith("## ") else ""
            directive = ["```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else []), ""]
            source[0] += "\n\n" + "\n".join([*directive, *pages, "```"])


def name_language(_app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Mark Chinese pages as Chinese: browsers choose the shapes of characters by it, readers the voice."""
    if page.startswith("zh/"):
        context["language"] = "zh-CN"


def help_screen_readers(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: object
) -> None:
    """Make captions of the navigation second-level headings, and let the keyboard scroll wide parts."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')
    body = context.get("body", "").replace("<pre>", '<pre tabindex="0">')
    context["body"] = body.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
