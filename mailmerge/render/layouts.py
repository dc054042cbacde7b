"""Layouts: what surrounds an HTML body, filled in once per campaign.

A layout is a file of HTML in which ``{{ content }}`` stands for the body. What it asks its campaign for, such
as the colour, it writes ``<<colour>>`` or ``<% if logo %>``: that is settled before the first row, so that
style sheets have no tags in them. Everything else in it is a template like any other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

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
_OWN: Final = frozenset({"lang", "subject"})
"""Names that a layout need not be told."""
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*")
_ONE_VALUE: Final = re.compile(r"\{\{(.*)\}\}", re.DOTALL)


def surround(
    content: str, layout: str, name: str, told: Mapping[str, str], tags: Tags, *, subject: str, locale: str
) -> str:
    """Put a body into a layout.

    Args:
        content: the body's HTML, its tags taken out.
        layout: the source of the layout.
        name: what it is called.
        told: what the campaign says for the names that the layout asks for.
        tags: where tags go that are taken out.
        subject: the template of the subject.
        locale: the template of the locale.

    Raises:
        TemplateError: it is not a layout, or is told something that it does not ask for.

    """
    environment = _environment(tags)
    try:
        asked = meta.find_undeclared_variables(environment.parse(layout))
    except TemplateSyntaxError as error:
        message = f"layout syntax: {(error.message or 'error').rstrip('.')}"
        raise TemplateError(message, code="T111", place=Place(path=name, line=error.lineno)) from None
    for key in (key for key in told if key not in asked):
        names = sorted(asked - _OWN)
        hint = did_you_mean(key, names) or f"it asks for: {', '.join(names) or 'nothing'}"
        raise TemplateError(f"the layout {name} does not ask for `{key}`", code="T112", hint=hint)
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
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
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
    """Change a colour until text of it can be read on this background; what is no colour stays as it is."""
    colour = parse(written)
    return written if colour is UNKNOWN else shown_colour(readable_on(colour, parse(background), least))


def _text_on(written: str) -> str:
    """Give the colour of text on this one: white or almost black."""
    colour = parse(written)
    return shown_colour(WHITE if colour is UNKNOWN else text_on(colour))


def _language(locale: str, tags: Tags) -> str:
    """Write a locale as HTML does: ``en-GB``."""
    if _LANGUAGE.fullmatch(locale):
        return locale.replace("_", "-")
    value = _ONE_VALUE.fullmatch(locale.strip())
    if value is None or "}}" in value[1]:
        return "en"
    return tags.add(f'{{{{ ({value[1].strip()})|string|replace("_", "-") }}}}', "message.locale", 1)
