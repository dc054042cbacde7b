"""What a campaign's author wrote, as frozen input of the renderer, with the place of each piece."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailmerge.model import AttachmentRule
    from mailmerge.render.tags import Derived
    from mailmerge.values import Plain


DEFAULT_LAYOUT: Final = "letter"
"""The default layout of Markdown."""


def stock_layout(name: str) -> Path:
    """Return the file of a stock layout."""
    return Path(__file__).parents[1] / "layouts" / f"{name}.html"


class TemplateSource(Struct, frozen=True):
    """One body template: a file, or text given in the campaign file or on the command line."""

    name: str
    """Its name in messages: the file as the user named it, or the option."""
    path: Path | None = None
    source: str | None = None
    """The text itself, if it is not in a file."""
    markdown: bool = False
    """Whether that text is Markdown; for a file, its suffix decides."""


PATH_TAG: Final = re.compile(r"(\{\{.*?\}\}|\{%.*?%\})")
"""A tag in the name of a file."""


def is_pattern(part: TemplateSource | None) -> bool:
    """Whether rows choose the file of the body."""
    return part is not None and part.path is not None and PATH_TAG.search(str(part.path)) is not None


def fixed_folder(path: Path) -> Path:
    """Return the folder of all files of a pattern: the last one before its first tag."""
    tag = PATH_TAG.search(str(path))  # it may contain a slash
    return Path(str(path)[: tag.start()] + "x").parent if tag else path.parent


class Layout(Struct, frozen=True):
    """The layout around an HTML body."""

    source: TemplateSource
    variables: Mapping[str, str] = field(default_factory=dict)
    """Values for the names that it uses, such as the colour: HTML text or templates."""


class MessageTemplates(Struct, frozen=True):
    """Every template of a campaign."""

    base: Path
    """The template folder: ``include``, ``extends`` and ``import`` reach nothing outside it."""
    from_: str
    to: tuple[str, ...]
    subject: str
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: tuple[str, ...] = ()
    sender: str | None = None
    text: TemplateSource | None = None
    html: TemplateSource | None = None
    layout: Layout | None = None
    """The layout around the HTML; None: it is a whole document."""
    preheader: str | None = None
    inline_css: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    unsubscribe: tuple[str, ...] = ()
    """Addresses that unsubscribe, ``https:`` or ``mailto:``; ``token`` is known in them."""
    attachments: tuple[AttachmentRule, ...] = ()
    calendar: Mapping[str, str] = field(default_factory=dict)
    """The event's templates, by key."""
    locale: str = "en"
    group_by: str | None = None
    """The expression that decides which rows share a message; None: each row has its own."""
    vars: Mapping[str, Plain] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    """Option names (``message.subject``, ``message.to``, ``attach[0].path``) and where each was set."""


class SourceMap:
    """Source text and place of every template, by its name in Jinja2."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self.texts: dict[str, str] = {}
        self.layout = ""
        """Which of them is the layout, with its own tags; empty: no layout is used."""
        self.made: dict[str, Derived] = {}
        """Templates that were derived from those."""
        self._shown: dict[str, str] = {}
        self._options = places

    def add(self, name: str, text: str, shown: str | None = None) -> None:
        """Record a template; *shown* is its file as the user named it, None for an option."""
        self.texts[name] = text
        if shown is not None:
            self._shown[name] = shown

    def derive(self, name: str, made: Derived) -> None:
        """Record a template that was derived from others."""
        self.made[name] = made

    def origin(self, name: str) -> str:
        """Return the template from which one was derived; one that was not derived is its own origin."""
        stem = re.sub(r" \((?:HTML|text)\)$", "", name)
        return next((own for own, shown in self._shown.items() if shown == stem), stem)

    def compiled(self, name: str) -> str:
        """Return the source of a template as it is compiled."""
        return self.made[name].text if name in self.made else self.texts.get(name, "")

    def option(self, name: str) -> Place | None:
        """Return where an option was set; None: unknown."""
        return self._options.get(name)

    def place(self, name: str | None, line: int = 1, word: str | None = None) -> Place:
        """Return where *line* of template *name* is, with the column of *word* in it."""
        name = name or ""
        if name in self.made:
            name, line = self.made[name].origin(line) or (re.sub(r" \((?:HTML|text)\)$", "", name), 1)
        option = self._options.get(name) or self._options.get(re.sub(r"(message\.\w+)\[\d+\]$", r"\1", name))
        if option and name not in self._shown:
            own = self.texts.get(name, "").split("\n")
            if 1 < line <= len(own) and option.line is not None and option.source == own[0]:
                # The text is unchanged from a file: its lines are lines of that file.
                option = replace(option, line=option.line + line - 1, source=own[line - 1], column=1)
            column = _column(option.source or "", word)
            return replace(option, column=column or option.column, width=len(word) if column and word else 1)
        lines = self.texts.get(name, "").splitlines()
        source = lines[line - 1] if 0 < line <= len(lines) else None
        column = _column(source or "", word)
        return Place(
            path=self._shown.get(name, name),
            line=line,
            column=column,
            width=len(word) if column and word else 1,
            source=source,
        )


def _column(line: str, word: str | None) -> int | None:
    """Find *word* in *line*, from 1: preferably inside a tag, not in the text around tags."""
    if not word:
        return None
    pattern = re.escape(word)
    pattern = (r"(?<![\w.])" if word[0].isidentifier() else "") + pattern
    pattern += r"(?!\w)" if word[-1].isalnum() else ""
    found = [match.start() for match in re.finditer(pattern, line)]
    for start in found:
        opened = max(line.rfind("{{", 0, start), line.rfind("{%", 0, start))
        closed = max(line.rfind("}}", 0, start), line.rfind("%}", 0, start))
        if opened > closed:
            return start + 1
    return found[0] + 1 if found else None
