"""Colours that are changed until they can be read, whatever a layout is told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailmerge.colours import LEAST_CONTRAST, Colour, contrast, parse, readable_on, shown_colour, text_on

COLOURS = st.builds(Colour, *[st.floats(0, 1)] * 3)
BACKGROUNDS = st.sampled_from(["#ffffff", "#f4f3ef", "#1e2125", "#15171a"]).map(parse)


@given(COLOURS, BACKGROUNDS)
def test_any_colour_becomes_readable(colour, background):
    """As it is written, text of it has a contrast of 4.5 to 1 on any background of ours."""
    found = readable_on(colour, background)

    assert contrast(parse(shown_colour(found)), background) >= LEAST_CONTRAST


@given(COLOURS)
def test_text_on_any_colour_is_readable(colour):
    """A button may have any colour: its words are white or black, whichever can be read."""
    written = parse(shown_colour(colour))

    assert contrast(text_on(written), written) >= LEAST_CONTRAST


def test_a_colour_that_can_be_read_stays():
    """Nobody's own colour is touched without need, and where it is, it stays of its hue."""
    white = parse("white")

    assert shown_colour(readable_on(parse("#0b6b59"), white)) == "#0b6b59"
    red, green, blue = readable_on(parse("#ffd400"), white)
    assert red > green > blue
    assert shown_colour(text_on(parse("#0b6b59"))) == "#ffffff"
    assert shown_colour(text_on(parse("#ffd400"))) == "#14171a"
