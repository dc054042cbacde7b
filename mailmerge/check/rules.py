"""What a careful reader would notice in a rendered message, without any network.

Each rule is a function from a rendered row and its message to diagnostics; `inspect` runs them all. Errors
make the row ``invalid``, warnings only speak. New rules are added to ``RULES``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mailmerge.model import Diagnostic, Message, Place, Rendered, Severity

Rule = Callable[[Rendered, Message, str], Iterator[Diagnostic]]

_SUBJECT_LENGTH = 78
_LEFTOVER = re.compile(r"\{\{[^{}]{0,200}\}\}|\{%[^{}]{0,200}%\}")
_GREETING = re.compile(
    r"^\W{0,3}(?:dear|hello|hi|hey|good (?:morning|afternoon|evening)|liebe[r]?|hallo|guten tag"
    r"|bonjour|hola|ciao)[ \t]*[,!:]",
    re.IGNORECASE | re.MULTILINE,
)
_BLOCKED = re.compile(
    r"\.(?:ade|adp|apk|appx|bat|cab|chm|cmd|com|cpl|dll|dmg|exe|hta|ins|iso|isp|jar|js|jse|lib|lnk|mde|msc|msi"
    r"|msix|msp|mst|nsh|pif|ps1|scr|sct|shb|sys|vb|vbe|vbs|vxd|wsc|wsf|wsh)\Z",
    re.IGNORECASE,
)
"""File types that Gmail refuses, also inside archives (its help page "File types blocked in Gmail")."""


def inspect(rendered: Rendered, message: Message, body: str) -> Iterator[Diagnostic]:
    """Yield what all rules find; *body* is the text part, or the HTML where there is none."""
    for rule in RULES:
        yield from rule(rendered, message, body)


def _warning(rendered: Rendered, code: str, text: str, hint: str, place: Place | None = None) -> Diagnostic:
    return Diagnostic(
        code,
        text,
        hint,
        severity=Severity.WARNING,
        place=place,
        row=rendered.recipient.row,
        address=str(rendered.to[0].address),
    )


def _leftover_markup(rendered: Rendered, _message: Message, body: str) -> Iterator[Diagnostic]:
    for part, text in (("subject", rendered.subject), ("body", body)):
        if "{" in text and (match := _LEFTOVER.search(text)):
            yield _warning(
                rendered,
                "T210",
                f"the {part} still holds template markup: {match[0]}",
                "the markup came from a cell or from escaped text: cells are never rendered",
            )


def _replacement_character(rendered: Rendered, _message: Message, body: str) -> Iterator[Diagnostic]:
    if "\ufffd" in body or "\ufffd" in rendered.subject:
        yield _warning(
            rendered,
            "D211",
            "the message holds U+FFFD, the mark of text read in the wrong encoding",
            "open the list in its own program and save it as UTF-8",
        )


def _nobody_greeted(rendered: Rendered, _message: Message, body: str) -> Iterator[Diagnostic]:
    if match := _GREETING.search(body[:2000]):
        yield _warning(
            rendered,
            "D204",
            f"the greeting names nobody: {match[0].strip()!r}",
            'write {{ first or "there" }} in the template, or set data.defaults for the column',
        )


def _long_subject(rendered: Rendered, _message: Message, _body: str) -> Iterator[Diagnostic]:
    if len(rendered.subject) > _SUBJECT_LENGTH:
        yield _warning(
            rendered,
            "M201",
            f"the subject has more than {_SUBJECT_LENGTH} characters",
            "phones show about 35 characters, desktops about 60: put the news first",
        )


def _no_text_part(rendered: Rendered, _message: Message, _body: str) -> Iterator[Diagnostic]:
    if rendered.text is None:
        yield _warning(
            rendered,
            "M202",
            "there is no text part",
            "some readers and most spam filters want one: add message.text",
        )


def _blocked_attachment(rendered: Rendered, _message: Message, _body: str) -> Iterator[Diagnostic]:
    for attachment in rendered.attachments:
        if _BLOCKED.search(attachment.name or attachment.path):
            yield _warning(
                rendered,
                "A203",
                f"most mail providers refuse attachments like {attachment.name or attachment.path}",
                "put it on a server and send the link",
            )


RULES: tuple[Rule, ...] = (
    _leftover_markup,
    _replacement_character,
    _nobody_greeted,
    _long_subject,
    _no_text_part,
    _blocked_attachment,
)
