"""The stock templates as people meet them: narrow and wide, light and dark, without pictures or styles.

Contrast is measured in the pixels of screenshots, everything else in the page as Chromium lays it out. The
modes are: what the message itself does in a dark mail program; Chromium's own way of darkening pages that do
nothing, much as phones do; and everything turned round, as the preview's "Forced dark" does.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browser.conftest import SCREENS
from browser.pixels import Pixels
from mailmerge import Campaign, preview
from servers.command import sample
from stock import WITH_HTML, first_message, layout_campaign, page, stock_campaign

if TYPE_CHECKING:
    from browser.conftest import Opened

NARROW, USUAL, WIDE = 320, 600, 1000
MODES = ("light", "dark", "darkened", "turned-round")
LEAST_CONTRAST, LEAST_SIZE, LEAST_TARGET = 4.5, 13, 44
(TURNED_ROUND,) = re.findall(
    r'FORCED_DARK = "(.+)"', (Path(preview.__file__).parent / "page/frame.js").read_text("utf-8")
)
LINES = """() => {
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    if (!/\\S/.test(node.data) || !node.parentElement.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const { left, top, width, height } of range.getClientRects())
      if (width > 2 && height > 2)
        found.push({ text: node.data.trim(), size: parseFloat(getComputedStyle(node.parentElement).fontSize),
          box: [left + scrollX, top + scrollY, width, height] });
  }
  return found;
}"""
TABLES = """tables => tables.filter(table => table.getAttribute("role") !== "presentation")
  .map(table => table.querySelectorAll("th[scope=row], thead th").length)"""


# Colours that are hard on white, on black, and on both.
LAYOUTS = {"layout-letter": ("letter", "#ffd400"), "layout-newsletter": ("newsletter", "#7a7a7a")}
ALL = (*WITH_HTML, *LAYOUTS)
SAMPLES = {f"sample-{name}": name for name in ("newsletter", "invoices", "notice-zh")}


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """The first message of every stock template and layout as a file for the browser."""
    folder = tmp_path_factory.mktemp("stock")
    (folder / "samples").mkdir()
    campaigns: dict[str, Campaign] = {kind: stock_campaign(folder / kind, kind) for kind in WITH_HTML}
    campaigns |= {name: layout_campaign(folder / name, *told) for name, told in LAYOUTS.items()}
    for name, sample_name in SAMPLES.items():
        environ = {"MAILMERGE_STATE_DIR": str(folder / "state")}
        campaigns[name] = Campaign.load(sample(sample_name, folder / "samples"), environ=environ)
    for name, campaign in campaigns.items():
        (folder / f"{name}.html").write_text(page(first_message(campaign)), "utf-8")
    return {name: folder / f"{name}.html" for name in campaigns}


def unreadable(opened: Opened, name: str) -> list[str]:
    """Return each line of text whose contrast is too low; the picture it was measured in is kept."""
    lines: list[dict[str, Any]] = opened.page.evaluate(LINES)
    pixels = Pixels(opened.screenshot(f"stock-{name}").read_bytes())
    inks = [(line["text"], pixels.ink(*line["box"])) for line in lines]
    assert len(inks) > 5
    return [f"{text}: {ink}" for text, ink in inks if ink.contrast < LEAST_CONTRAST]


@pytest.mark.parametrize("kind", [*ALL, *SAMPLES])
def test_every_text_is_readable_in_every_mode(pages, open_page, kind):
    """In light, in dark and in both ways of forced dark each line has a contrast of at least 4.5 to 1."""
    opened = open_page(pages[kind], width=NARROW)
    found = {"light": unreadable(opened, f"{kind}-light")}
    opened.page.emulate_media(color_scheme="dark")
    found["dark"] = unreadable(opened, f"{kind}-dark")
    opened.page.emulate_media(color_scheme="light")
    session = opened.page.context.new_cdp_session(opened.page)
    session.send("Emulation.setAutoDarkModeOverride", {"enabled": True})
    found["darkened"] = unreadable(opened, f"{kind}-darkened")
    session.send("Emulation.setAutoDarkModeOverride", {"enabled": False})
    opened.page.add_style_tag(content=TURNED_ROUND)
    found["turned round"] = unreadable(opened, f"{kind}-turned-round")

    assert not any(found.values()), found
    assert len({Pixels((SCREENS / f"stock-{kind}-{mode}.png").read_bytes()).corner for mode in MODES}) == 4


@pytest.mark.parametrize("kind", ALL)
def test_it_is_readable_without_any_style_sheet(pages, open_page, kind):
    """With every ``<style>`` removed nothing is lost: contrast, sizes, what is hidden, and the width."""
    opened = open_page(pages[kind], width=NARROW)
    texts = [line["text"] for line in opened.page.evaluate(LINES)]
    opened.page.eval_on_selector_all("style", "all => all.forEach(one => one.remove())")
    found = {"light": unreadable(opened, f"{kind}-bare-light")}
    opened.page.emulate_media(color_scheme="dark")
    found["dark"] = unreadable(opened, f"{kind}-bare-dark")

    lines = opened.page.evaluate(LINES)
    assert found == {"light": [], "dark": []}
    assert {line["text"] for line in lines} == set(texts)
    assert opened.overflow == 0
    assert min(line["size"] for line in lines) >= LEAST_SIZE


@pytest.mark.parametrize("kind", ALL)
def test_it_fits_from_320_to_1000_pixels(pages, open_page, kind):
    """Nothing is wider than the window, no text is small, no line is long, and a thumb finds the buttons."""
    opened = open_page(pages[kind])
    for width in (NARROW, USUAL, WIDE):
        opened.page.set_viewport_size({"width": width, "height": 900})
        lines = opened.page.evaluate(LINES)
        assert opened.overflow == 0, width
        assert min(line["size"] for line in lines) >= LEAST_SIZE
        left, right = min(line["box"][0] for line in lines), max(sum(line["box"][::2]) for line in lines)
        assert right - left <= USUAL
        assert abs((width - right) - left) < width / 2, "it stands in the middle"
        buttons = opened.page.locator(".button a").all()
        assert all(button.bounding_box()["height"] >= LEAST_TARGET for button in buttons)
    opened.screenshot(f"stock-{kind}-{WIDE}")


@pytest.mark.parametrize("kind", ALL)
def test_it_is_accessible(pages, open_page, kind):
    """Axe-core finds nothing, and EN 301 549 (WCAG 1.3.1, 2.4.4, 2.4.6, 3.1.1) is met as far as mail can.

    Landmarks are the mail program's: a message is shown inside of its page.
    """
    opened = open_page(pages[kind], width=USUAL)
    page = opened.page

    titled = kind != "letter"  # one person writes to another without a headline
    others = () if titled else ("page-has-heading-one",)
    assert opened.violations(but=("landmark-one-main", "region", *others)) == []
    levels = page.eval_on_selector_all("h1,h2,h3,h4,h5,h6", "all => all.map(one => +one.tagName[1])")
    assert levels[:1] == [1] * titled
    assert levels.count(1) == titled
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.title()
    links = page.locator("a").all_inner_texts()
    assert all(len(text.split()) > 1 for text in links), links
    assert len(set(links)) == len(links)
    assert all(page.locator("table").evaluate_all(TABLES)), "a table without headings is layout: role"
    assert all(page.locator("img").evaluate_all("all => all.map(one => one.alt.trim().length > 10)"))


@pytest.mark.parametrize("kind", ["newsletter", "event"])
def test_without_pictures_their_words_are_read(pages, open_page, kind):
    """Where pictures are off, the alt text appears in their place, in full and easy to read."""
    opened = open_page(pages[kind], width=NARROW)
    picture = opened.page.locator("img").first
    picture.evaluate("one => one.src = 'cid:off'")
    opened.page.wait_for_timeout(50)
    box = picture.bounding_box()
    ink = Pixels(opened.screenshot(f"stock-{kind}-off").read_bytes()).ink(
        box["x"] + 20, box["y"], box["width"] - 20, box["height"]
    )

    assert ink.contrast >= LEAST_CONTRAST
    assert box["height"] >= 24
    assert opened.overflow == 0
