"""Colours: read from CSS, compared as WCAG 2.2 compares them, and changed until they can be read.

Contrast and relative luminance: WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio.
"""

from __future__ import annotations

import colorsys
from typing import Final, NamedTuple


class Colour(NamedTuple):
    """Red, green and blue from 0 to 1."""

    red: float
    green: float
    blue: float


BLACK, WHITE = Colour(0, 0, 0), Colour(1, 1, 1)
UNKNOWN = Colour(-1, -1, -1)
"""A colour that is declared, but cannot be determined from the declaration alone."""


LEAST_CONTRAST: Final = 4.5
"""Of normal text and its background: WCAG 1.4.3."""
_INK: Final = Colour(0x14 / 255, 0x17 / 255, 0x1A / 255)
_STEPS, _ROUNDING = 50, 0.05


def parse(value: str) -> Colour:
    """Read a CSS colour; `UNKNOWN`: it is not a colour, or one that shows what is behind it."""
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


def readable_on(colour: Colour, background: Colour, least: float = LEAST_CONTRAST) -> Colour:
    """Make a colour as much darker, or lighter, as text in it needs on this background; its hue stays.

    *least* is the contrast that it has at least, if black or white has as much.
    """
    target = 0.0 if contrast(BLACK, background) > contrast(WHITE, background) else 1.0
    hue, lightness, saturation = colorsys.rgb_to_hls(*colour)
    for step in range(_STEPS + 1):
        changed = Colour(
            *colorsys.hls_to_rgb(hue, lightness + (target - lightness) * step / _STEPS, saturation)
        )
        if contrast(changed, background) >= least + _ROUNDING:
            return changed
    return Colour(target, target, target)


def text_on(background: Colour) -> Colour:
    """Return white, almost black or black: the first that can be read on this background."""
    return next(colour for colour in (WHITE, _INK, BLACK) if contrast(colour, background) >= LEAST_CONTRAST)
