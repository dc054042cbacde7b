"""The documentation site as ``make docs`` builds it: its links, and how people meet it, opened from disk."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag

import lxml.html
import pytest

import mailmerge
from mailmerge.check.catalogue import catalogue
from mailmerge.cli import SUMMARIES
from servers.programs import unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from browser.conftest import Opened

expect = pytest.importorskip("playwright.sync_api").expect

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md"))
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Source"]
LOADED = "//@src | //@srcset | //@poster | //object/@data | //link[not(@rel='canonical')]/@href"
MODERATE = ("landmark-unique", "region")
"""What axe thinks of Furo's frame around every page, and does not call serious."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, once for all workers, with the options of ``make docs``: any warning fails."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    built = shared / "site"
    with (shared / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            makefile = (ROOT / "Makefile").read_text("utf-8")
            options = re.findall(r"^SPHINX_OPTIONS = (.*)$", makefile, re.MULTILINE)[0].split()
            folders = ["--doctree-dir", str(shared / "doctrees"), str(DOCS), str(built)]
            subprocess.run([sys.executable, "-m", "sphinx", *options, *folders], env=unmeasured(), check=True)
    return built


@cache
def parsed(page: Path) -> lxml.html.HtmlElement:
    """Read a page of the site."""
    return lxml.html.fromstring(page.read_bytes())


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return what a link to a page can name."""
    return frozenset(parsed(page).xpath("//@id"))


def html(site: Path) -> Iterator[Path]:
    """Yield the site's pages that are made from ours, and the page of the search."""
    yield from (site / f"{page}.html" for page in PAGES)
    yield site / "search.html"


def test_every_page_is_on_the_site(site: Path) -> None:
    """Each page of docs/ is there, and can be reached from the first page by the navigation."""
    first = parsed(site / "index.html")
    links = {urldefrag(link).url for link in first.xpath("//*[contains(@class, 'sidebar-tree')]//a/@href")}
    assert {page for page in PAGES if f"{page}.html" not in links} == {"index"}
    assert {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")} == {
        *PAGES,
        "search",
    }


def test_each_page_names_its_language(site: Path) -> None:
    """Chinese pages are marked as Chinese, all others as English."""
    languages = {page: parsed(site / f"{page}.html").get("lang") for page in PAGES}
    assert {page: "zh-CN" if page.startswith("zh/") else "en" for page in PAGES} == languages
    assert "zh/tutorial" in languages


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures are in the site's folder: it works offline and tells nobody."""
    names = [(page.name, name) for page in html(site) for name in parsed(page).xpath(LOADED)]
    names += [
        (style.name, name)
        for style in site.rglob("*.css")
        for name in re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", style.read_text("utf-8"))
    ]
    assert len(names) > len(PAGES)
    assert [found for found in names if re.match(r"(?!data:)[\w+.-]*:|//", found[1])] == []
    scripts = {script.name: script.read_text("utf-8") for script in site.rglob("*.js")}
    asks = r"""(?:fetch|import|XMLHttpRequest|src\s*=)\W{0,3}https?:"""
    assert [name for name, text in scripts.items() if re.search(asks, text)] == []


def test_links_lead_somewhere(site: Path) -> None:
    """What a link names is there: a page of the site with its anchor, or a file of this repository."""
    wrong = []
    for page in html(site):
        for link in parsed(page).xpath("//a/@href"):
            name, anchor = urldefrag(link)
            if inside := re.match(rf"{SOURCE}/(blob|tree|edit)/main/([^?]*)", name):
                path = ROOT / inside[2]
                right = path.is_dir() if inside[1] == "tree" else path.is_file()
                wrong += [] if right else [(page.name, link)]
            elif not re.match(r"[\w+.-]+:", link):
                target = (page.parent / unquote(name)).resolve() if name else page
                right = target.is_file() and (not anchor or unquote(anchor) in anchors(target))
                wrong += [] if right else [(page.name, link)]
    assert wrong == []


def test_headings_have_the_anchors_that_github_gives_them(site: Path) -> None:
    """A link with an anchor works at both places."""
    missing = []
    for page in PAGES:
        text = re.sub(
            r"^```.*?^```", "", (DOCS / f"{page}.md").read_text("utf-8"), flags=re.DOTALL | re.MULTILINE
        )
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
            slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            missing += [] if slug in anchors(site / f"{page}.html") else [(page, slug)]
    assert missing == []


def test_every_code_command_and_name_has_an_anchor(site: Path) -> None:
    """``checks.html#d112``, ``commands.html#mailmerge-send`` and ``api.html#campaign`` can be linked."""
    assert {code.lower() for code in catalogue()} - anchors(site / "checks.html") == set()
    assert {f"mailmerge-{name}" for name in SUMMARIES} - anchors(site / "commands.html") == set()
    assert {name.lower() for name in mailmerge.__all__} - anchors(site / "api.html") == set()


@pytest.mark.program("chromium")
def test_the_search_finds_a_page_from_disk(site: Path, open_page: Callable[..., Opened]) -> None:
    """Without a server and without a network: typed into the box, found, opened."""
    opened = open_page(site / "index.html")
    opened.page.get_by_role("textbox", name="Search").fill("greylisting")
    opened.page.keyboard.press("Enter")
    results = opened.page.locator("ul.search a")
    expect(results.first).to_be_visible()
    results.first.click()
    expect(opened.page.locator("article")).to_contain_text("greylist", ignore_case=True)
    assert [request for request in opened.requests if not request.startswith("file:")] == []


@pytest.mark.program("chromium")
@pytest.mark.parametrize(("scheme", "pages"), [("light", ["index", "campaign-file"]), ("dark", ["results"])])
def test_pages_are_for_everybody(
    site: Path, open_page: Callable[..., Opened], scheme: str, pages: list[str]
) -> None:
    """The page follows the system's colours, and axe finds nothing serious at a phone's width."""
    opened = open_page(site / f"{pages[0]}.html", width=390, scheme=scheme)
    for page in pages:
        opened.page.goto((site / f"{page}.html").as_uri())
        assert opened.violations(but=MODERATE) == [], page
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    shades = [int(shade) for shade in re.findall(r"\d+", background)[:3]]
    assert (max(shades) < 80) == (scheme == "dark")


@pytest.mark.program("chromium")
def test_no_page_is_wider_than_a_phone(site: Path, open_page: Callable[..., Opened]) -> None:
    """Long names, wide tables and code scroll by themselves: the pages that have most of them."""
    opened = open_page(site / "index.html", width=360, scripts=False)
    wide = []
    for page in ("index", "api", "commands", "content", "options", "protocol", "providers", "values"):
        opened.page.goto((site / f"{page}.html").as_uri())
        wide += [page] if opened.overflow > 0 else []
    assert wide == []
