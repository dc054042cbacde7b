"""What an eye gets: colours and contrast, read from the pixels of a screenshot."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colour = tuple[int, int, int]
_PLACES = np.array([65536, 256, 1], np.uint32)


class Ink(NamedTuple):
    """The two colours of a piece of text, and their contrast as WCAG 2.2 defines it, from 1 to 21."""

    text: Colour
    background: Colour
    contrast: float


class Pixels:
    """A screenshot, one pixel of which is one of CSS."""

    def __init__(self, png: bytes) -> None:
        self._data: NDArray[np.uint8] = np.asarray(Image.open(BytesIO(png)).convert("RGB"))

    @property
    def corner(self) -> Colour:
        """The colour of the first pixel: of what is behind everything."""
        return _colour(self._data[0, 0])

    def ink(self, left: float, top: float, width: float, height: float) -> Ink:
        """Return the colours of the text in a rectangle, given as the browser gives it.

        The background is the colour that most of it has, the text the colour farthest from that: edges of
        letters are smoothed, so that what is measured is never better than what was asked for.
        """
        rows = slice(int(max(top, 0)), int(top + height) + 1)
        columns = slice(int(max(left, 0)), int(left + width) + 1)
        found = self._data[rows, columns].reshape(-1, 3).astype(np.uint32) @ _PLACES
        numbers, counts = np.unique(found, return_counts=True)
        colours = (numbers[:, None] // _PLACES % 256).astype(np.uint8)
        light = _luminance(colours)
        most = counts.argmax()
        high, low = np.maximum(light, light[most]), np.minimum(light, light[most])
        ratios = (high + 0.05) / (low + 0.05)
        farthest = ratios.argmax()
        return Ink(_colour(colours[farthest]), _colour(colours[most]), float(ratios[farthest]))


def _luminance(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    parts = colours / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    found: NDArray[np.float64] = linear @ np.array([0.2126, 0.7152, 0.0722])
    return found


def _colour(pixel: NDArray[np.uint8]) -> Colour:
    red, green, blue = pixel.tolist()
    return red, green, blue
