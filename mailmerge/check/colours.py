"""Which colour a text has, on which ground, and whether eyes can tell them apart (WCAG 2.2, 1.4.3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

    from mailmerge.check.html_document import Page

_SIZE = re.compile(r"([\d.]+)(px|pt|em|rem|%)?")
_UNITS = {"px": 1.0, "pt": 4 / 3, "em": 16.0, "rem": 16.0, "%": 0.16}
_HEADINGS = {"h1": 32.0, "h2": 24.0, "h3": 18.72}


class Colour(NamedTuple):
    """Red, green and blue from 0 to 1."""

    red: float
    green: float
    blue: float


BLACK, WHITE = Colour(0, 0, 0), Colour(1, 1, 1)


def effective_colours(page: Page, element: Element) -> tuple[Colour, Colour, bool] | None:
    """Give text colour, background, and whether the text is large; None: they cannot be known from here.

    Only what stands in the elements themselves is looked at: where a style sheet or a picture may have its
    say, nothing is claimed.
    """
    ink = paper = size = None
    bold = False
    sheets = bool(page.sheets)
    node: Element | None = element
    while node is not None:
        style = page.style(node)
        background = style.get("background-color") or style.get("background") or node.get("bgcolor")
        if (sheets and (node.get("class") or node.get("id"))) or _pictured(style, node):
            return None
        if ink is None and (
            written := style.get("color") or (node.get("color") if node.tag == "font" else None)
        ):
            ink = parse(written)
            if ink is None:
                return None
        if ink is None and node.tag == "a":
            return None  # a link's own colour is the program's
        if paper is None and background and background not in {"none", "transparent", "inherit"}:
            paper = parse(background.split()[0])
            if paper is None:
                return None
        size = size or _size(style.get("font-size") or style.get("font")) or _HEADINGS.get(str(node.tag))
        bold = bold or node.tag in {"b", "strong", "th", *_HEADINGS} or _is_bold(style)
        node = node.getparent()
    if ink is None and paper is None:
        return None
    large = (size or 16) >= 24 or (bold and (size or 16) >= 18.66)
    return ink or BLACK, paper or WHITE, large


def _pictured(style: dict[str, str], node: Element) -> bool:
    return bool(
        node.get("background")
        or "background-image" in style
        or re.search(r"url\(|gradient", style.get("background", ""))
    )


def _is_bold(style: dict[str, str]) -> bool:
    weight = style.get("font-weight", "") or style.get("font", "")
    return bool(re.search(r"\bbold|\b[789]00\b", weight))


def _size(value: str | None) -> float | None:
    match = _SIZE.search(value or "")
    return (
        float(match[1]) * _UNITS[match[2] or "px"] if match and re.fullmatch(r"[\d.]*\d", match[1]) else None
    )


def parse(value: str) -> Colour | None:
    """Read a CSS colour; None: it is none, or one that shows what is behind it."""
    from tinycss2.color3 import RGBA, parse_color

    try:
        colour = parse_color(value)
    except ValueError:
        return None
    if not isinstance(colour, RGBA) or colour.alpha < 1:
        return None
    return Colour(colour.red, colour.green, colour.blue)


def contrast(one: Colour, other: Colour) -> float:
    """Give the contrast ratio of two colours, from 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Colour) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def shown_colour(colour: Colour) -> str:
    """Write a colour as ``#rrggbb``."""
    return "#" + "".join(f"{round(part * 255):02x}" for part in colour)
