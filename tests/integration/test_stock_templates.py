"""What the stock templates are made of: what Outlook lays out by Word, and nothing that programs drop."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import lxml.html
import pytest

from mailmerge.campaign.scaffold import templates_folder
from mailmerge.options import StockTemplate
from stock import WITH_HTML, first_message, page, stock_campaign

NOT_IN_WORD = re.compile(r"flex|grid|float:|position:|background-image|url\(|calc\(|var\(|rem\b|vw\b|@import")
FOR_OUTLOOK = re.compile(r"<!--\[if mso\]>(.*?)<!\[endif\]-->", re.DOTALL)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[StockTemplate, str]:
    """The HTML of the first message of each."""
    folder = tmp_path_factory.mktemp("stock")
    return {kind: page(first_message(stock_campaign(folder / kind, kind))) for kind in WITH_HTML}


@pytest.mark.parametrize("kind", WITH_HTML)
def test_outlook_lays_it_out(shown: dict[StockTemplate, str], kind: StockTemplate) -> None:
    """Tables carry the layout, widths and colours are attributes, and Outlook gets a frame of its own."""
    html = shown[kind]
    document: Any = lxml.html.fromstring(html)
    tables = document.xpath("//table")
    layout = [table for table in tables if table.get("role") == "presentation"]

    assert not NOT_IN_WORD.search(re.sub(r'"data:[^"]*"', "", re.sub(r"(?s)<head>.*</head>", "", html)))
    assert {table.get("cellpadding") for table in tables} == {"0"}
    assert {table.get("border") for table in tables} == {"0"}
    assert all(table.xpath(".//th[@scope]") for table in tables if table not in layout)
    for element in document.xpath("//*[contains(@style, 'background-color')]"):
        colour = re.search(r"background-color:\s*(#\w+)", element.get("style"))
        assert colour is not None
        assert element.tag == "body" or element.get("bgcolor") == colour[1]
    for button in document.find_class("button"):
        (cell,) = button.xpath(".//td")
        assert "mso-padding-alt" in cell.get("style")
        assert cell.get("bgcolor")
    assert all(image.get("width").isdecimal() for image in document.xpath("//img"))
    only = "".join(FOR_OUTLOOK.findall(html))
    for tag in ("table", "tr", "td"):
        assert len(re.findall(rf"<{tag}\b", only)) == only.count(f"</{tag}>") > 0, tag


@pytest.mark.parametrize("kind", WITH_HTML)
def test_both_parts_say_the_same(
    shown: dict[StockTemplate, str], kind: StockTemplate, tmp_path: Path
) -> None:
    """Every heading of the HTML, who sends it, where they are and the way out are in the text part, too."""
    message = first_message(stock_campaign(tmp_path / kind, kind))
    part = message.get_body(("plain",))
    assert part is not None
    text = " ".join(part.get_content().casefold().split())
    document: Any = lxml.html.fromstring(shown[kind])

    for heading in document.xpath("//h1|//h2"):
        assert heading.text_content().casefold() in text
    assert kind == "letter" or "your organisation, your street 1, 12345 your town" in text
    assert (
        ("unsubscribe" in text) is ("unsubscribe" in shown[kind]) is (message["List-Unsubscribe"] is not None)
    )


@pytest.mark.parametrize("kind", get_args(StockTemplate))
def test_check_finds_only_that_nobody_has_written_it_yet(kind: StockTemplate, tmp_path: Path) -> None:
    """Each file of a template has text that check takes for what it is, as our name and address have."""
    found = stock_campaign(tmp_path / kind, kind).check()

    told = [
        (group.first.code, Path(str(group.first.place and group.first.place.path)).name)
        for group in found.problems
    ]
    bodies = [path.name for path in (templates_folder() / kind).iterdir() if path.suffix != ".png"]
    ours = () if kind == "plain" else ("campaign.toml", "campaign.toml")  # our_name and our_address
    assert sorted(told) == sorted(("M210", name) for name in (*bodies, *ours))
    assert found.ready == 2


def test_nothing_is_sent_without_its_file() -> None:
    """No stock template skips a file that is missing: that is for a person to decide."""
    texts = [path.read_text("utf-8") for path in templates_folder().rglob("*.*") if path.suffix != ".png"]
    assert len(texts) > len(WITH_HTML)
    assert not any(re.search(r"missing\s*=", text) for text in texts)
