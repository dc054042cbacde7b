"""Marks around merged values, for people to see what came from the data; never in what is sent."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from mailmerge.render.environments import printed

# Two characters from a private-use plane: no font, list or template has a meaning for them.
START = "\U000f5ab0"
END = "\U000f5ab1"


def marked(value: Any) -> Any:
    """Print *value* between the two marks; what holds marks already (a macro's output) stays as it is."""
    shown = printed(value)
    if hasattr(shown, "__html__"):
        markup = Markup(shown.__html__())  # noqa: S704  the same that the unmarked template prints
        return markup if START in markup else Markup("{}{}{}").format(START, markup, END)
    text = str(shown)
    return text if START in text else f"{START}{text}{END}"


def unmarked(text: str) -> str:
    """Take the marks out again."""
    return text.replace(START, "").replace(END, "")
