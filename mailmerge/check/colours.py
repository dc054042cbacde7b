"""Which colour a text has, on which background, and whether eyes can tell them apart (WCAG 2.2, 1.4.3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

    from mailmerge.check.html_document import HtmlDocument

_SIZE = re.compile(r"(\d*\.?\d+)(px|pt|em|rem|%)?")
_UNITS = {"px": 1.0, "pt": 4 / 3, "em": 16.0, "rem": 16.0, "%": 0.16}
_HEADINGS = {"h1": 32.0, "h2": 24.0, "h3": 18.72}
_BOLD = frozenset({"b", "strong", "th", *_HEADINGS})
_BOLD_WEIGHT = re.compile(r"\bbold|\b[789]00\b")
_PICTURE = re.compile(r"url\(|gradient")
_USUAL_SIZE, _LARGE, _LARGE_IF_BOLD = 16.0, 24.0, 18.66
"""In pixels; WCAG calls text large from 18 points, or from 14 points in bold."""


class Colour(NamedTuple):
    """Red, green and blue from 0 to 1."""

    red: float
    green: float
    blue: float


BLACK, WHITE = Colour(0, 0, 0), Colour(1, 1, 1)
UNKNOWN = Colour(-1, -1, -1)
"""A colour that is declared, but cannot be told from the declaration alone."""


class Appearance(NamedTuple):
    """How a text looks."""

    foreground: Colour
    background: Colour
    is_large: bool


def appearance(document: HtmlDocument, element: Element) -> Appearance | None:
    """Work out how the text of *element* looks; None: it cannot be known, or nothing is declared.

    Only declarations in the elements themselves count: where a style sheet or a picture may decide, nothing
    is claimed.
    """
    foreground = background = size = None
    bold = False
    for node in (element, *element.iterancestors()):  # the nearest declaration wins
        style = document.style(node)
        if _decided_elsewhere(document, node, style):
            return None
        foreground = foreground or _foreground(node, style)
        background = background or _background(node, style)
        if UNKNOWN in (foreground, background):
            return None
        size = size or _size(style) or _HEADINGS.get(str(node.tag))
        bold = bold or node.tag in _BOLD or _is_bold(style)
    if foreground is None and background is None:
        return None
    large = (size or _USUAL_SIZE) >= (_LARGE_IF_BOLD if bold else _LARGE)
    return Appearance(foreground or BLACK, background or WHITE, large)


def _decided_elsewhere(document: HtmlDocument, node: Element, style: dict[str, str]) -> bool:
    """Whether a style sheet may apply to *node*, or a picture lies behind its text."""
    styled = document.sheets and (node.get("class") or node.get("id"))
    pictured = (
        node.get("background")
        or "background-image" in style
        or _PICTURE.search(style.get("background", "")) is not None
    )
    return bool(styled or pictured)


def _foreground(node: Element, style: dict[str, str]) -> Colour | None:
    written = style.get("color") or (node.get("color") if node.tag == "font" else None)
    if written:
        return parse(written)
    return UNKNOWN if node.tag == "a" else None  # a link's own colour is the mail program's


def _background(node: Element, style: dict[str, str]) -> Colour | None:
    written = style.get("background-color") or style.get("background") or node.get("bgcolor")
    if not written or written in {"none", "transparent", "inherit"}:
        return None
    return parse(written.split()[0])


def _size(style: dict[str, str]) -> float | None:
    match = _SIZE.search(style.get("font-size") or style.get("font") or "")
    return float(match[1]) * _UNITS[match[2] or "px"] if match else None


def _is_bold(style: dict[str, str]) -> bool:
    weight = style.get("font-weight", "") or style.get("font", "")
    return _BOLD_WEIGHT.search(weight) is not None


def parse(value: str) -> Colour:
    """Read a CSS colour; `UNKNOWN`: it is none, or one that shows what is behind it."""
    from tinycss2.color3 import RGBA, parse_color

    try:
        colour = parse_color(value)
    except ValueError:
        return UNKNOWN
    if not isinstance(colour, RGBA) or colour.alpha < 1:
        return UNKNOWN
    return Colour(colour.red, colour.green, colour.blue)


def contrast(one: Colour, other: Colour) -> float:
    """Return the contrast ratio of two colours, from 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Colour) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def shown_colour(colour: Colour) -> str:
    """Write a colour as ``#rrggbb``."""
    return "#" + "".join(f"{round(part * 255):02x}" for part in colour)
