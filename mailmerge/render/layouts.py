"""Layouts: the HTML around a body, filled in once per campaign.

A layout is an HTML file in which ``{{ content }}`` marks the place of the body. What it requires from the
campaign, such as the colour, it writes as ``<<colour>>`` or ``<% if logo %>``: that is resolved before the
first row, so style sheets contain no tags. Everything else in it is a template like any other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from jinja2 import TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from mailmerge.colours import LEAST_CONTRAST, UNKNOWN, WHITE, parse, readable_on, shown_colour, text_on
from mailmerge.errors import TemplateError
from mailmerge.model import Place
from mailmerge.render.markdown import convert
from mailmerge.render.tags import MARK
from mailmerge.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailmerge.render.tags import Tags

CONTENT: Final = "content"
AUTHOR_MARKS: Final[Mapping[str, Any]] = {
    "variable_start_string": "<<",
    "variable_end_string": ">>",
    "block_start_string": "<%",
    "block_end_string": "%>",
    "comment_start_string": "<#",
    "comment_end_string": "#>",
}
"""The tags of layouts and stock templates, whose other tags are for each row."""
_OWN: Final = frozenset({"lang", "subject"})
"""Names that need not be specified for a layout."""
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*")
_ONE_VALUE: Final = re.compile(r"\{\{(.*)\}\}", re.DOTALL)


def surround(
    content: str, layout: str, name: str, told: Mapping[str, str], tags: Tags, *, subject: str, locale: str
) -> str:
    """Insert a body into a layout.

    Args:
        content: the body's HTML, its tags taken out.
        layout: the source of the layout.
        name: its name in messages.
        told: the campaign's values for the names that the layout requires.
        tags: receives the tags that are taken out.
        subject: the template of the subject.
        locale: the template of the locale.

    Raises:
        TemplateError: it is not a layout, or the campaign specifies a name that it does not use.

    """
    environment = _environment(tags)
    try:
        asked = meta.find_undeclared_variables(environment.parse(layout))
    except TemplateSyntaxError as error:
        message = f"layout syntax: {(error.message or 'error').rstrip('.')}"
        raise TemplateError(message, code="T111", place=Place(path=name, line=error.lineno)) from None
    for key in (key for key in told if key not in asked):
        names = sorted(asked - _OWN)
        hint = did_you_mean(key, names) or f"it uses: {', '.join(names) or 'nothing'}"
        raise TemplateError(f"the layout {name} does not use `{key}`", code="T112", hint=hint)
    values = {key: tags.take_out(text, f"message.layout_vars.{key}") for key, text in told.items()}
    values["subject"] = tags.take_out(subject, "message.subject")
    values["lang"] = _language(locale, tags)
    try:
        filled = environment.from_string(layout).render({name: values.get(name, "") for name in asked})
    except Exception as error:  # noqa: BLE001  whatever a template can raise
        reason = str(error).partition("\n")[0].rstrip(".")
        where = Place(path=name, line=getattr(error, "lineno", None))
        message = f"the layout {name} cannot be filled in: {reason}"
        raise TemplateError(message, code="T111", place=where) from None
    around = tags.anchor(name, 1) + tags.take_out(filled, name, marked=True)
    places = [mark for mark in MARK.finditer(around) if tags[int(mark[1])].expression == CONTENT]
    if len(places) != 1:
        raise TemplateError(
            f"the layout {name} has {len(places) or 'no'} places for the body, not one",
            code="T113",
            hint="write {{ content }} where it belongs",
            place=Place(path=name),
        )
    [place] = places
    back = tags.anchor(name, tags.line_of(name, around, place.start()))
    return f"{around[: place.start()]}{content}{back}{around[place.end() :]}"


def _environment(tags: Tags) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        **AUTHOR_MARKS,
        keep_trailing_newline=True,
        autoescape=True,
    )
    environment.filters["markdown"] = lambda text: _markdown(text, tags)
    environment.filters["readable"] = _readable
    environment.filters["text_on"] = _text_on
    return environment


def _markdown(text: str, tags: Tags) -> Markup:
    return Markup(convert(str(text), tags).html.strip())  # noqa: S704  what the campaign's author wrote


def _readable(written: str, background: str, least: float = LEAST_CONTRAST) -> str:
    """Change a colour until text in it is readable on this background; an unknown colour is unchanged."""
    colour = parse(written)
    return written if colour is UNKNOWN else shown_colour(readable_on(colour, parse(background), least))


def _text_on(written: str) -> str:
    """Return the colour of text on this background: white or almost black."""
    colour = parse(written)
    return shown_colour(WHITE if colour is UNKNOWN else text_on(colour))


def _language(locale: str, tags: Tags) -> str:
    """Return a locale in HTML's notation: ``en-GB``."""
    if _LANGUAGE.fullmatch(locale):
        return locale.replace("_", "-")
    value = _ONE_VALUE.fullmatch(locale.strip())
    if value is None or "}}" in value[1]:
        return "en"
    return tags.add(f'{{{{ ({value[1].strip()})|string|replace("_", "-") }}}}', "message.locale", 1)
