"""Rules about what providers refuse, cut off or expect."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailmerge.check.message_view import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.check.message_view import Look, Shape
    from mailmerge.model import Message

_BLOCKED = re.compile(
    r"\.(?:ade|adp|apk|appx|bat|cab|chm|cmd|com|cpl|dll|dmg|exe|hta|ins|iso|isp|jar|js|jse|lib|lnk|mde|msc|msi"
    r"|msix|msp|mst|nsh|pif|ps1|scr|sct|shb|sys|vb|vbe|vbs|vxd|wsc|wsf|wsh)\Z",
    re.IGNORECASE,
)
"""File types that Gmail refuses, also inside archives (its help page "File types blocked in Gmail")."""
_CLIPPED = 102 * 1024
_LARGE = 10 * 1024 * 1024
_LEAVE = re.compile(
    r"(?:unsubscri|opt[ -]?out|no more (?:letters|mail|e-mail)"
    r"|abmeld|abbestell|désabonn|desabonn|se désinscrire"
    r"|darse de baja|cancelar suscri|disiscri|cancella.{0,12}iscrizione|afmeld|uitschrijv"
    r"|wypisz|avprenumerera"
    r"|отпис|退订|取消订阅|退訂|配信停止|購読解除|수신거부)\w*",
    re.IGNORECASE,
)


def blocked_attachment(look: Look) -> Iterator[Finding]:
    """File types that Gmail and others refuse."""
    for attachment in look.rendered.attachments:
        if _BLOCKED.search(attachment.name or attachment.path):
            yield Finding(
                "A305",
                f"most mail providers refuse attachments like {attachment.name or attachment.path}",
                "put it on a server and send the link",
            )


def size(look: Look) -> Iterator[Finding]:
    """Messages that are cut off by Gmail, or too large for many servers."""
    # Encoding makes text at most three times as long.
    if sum(map(len, look.rendered.html or ())) * 3 > _CLIPPED:
        octets = _html_octets(look.message)
        if octets > _CLIPPED:
            yield Finding(
                "M211",
                f"the HTML has more than {_CLIPPED // 1024} KB: Gmail cuts it off there",
                f"it has {octets:,} octets as it is sent: shorten it, or link to the rest",
            )
    if look.message.size > _LARGE:
        yield Finding(
            "M212",
            f"the message is larger than {_LARGE // 1024 // 1024} MB",
            f"it has {look.message.size:,} octets; many servers refuse such mail: send a link instead",
        )


def _html_octets(message: Message) -> int:
    """Measure the HTML part as it is encoded, without pictures."""
    before = b""
    for segment in message.segments:
        if b"Content-Type: text/html" in before[-200:]:
            return len(segment)
        before = segment
    return 0


def ways_out(shape: Shape) -> Iterator[Finding]:
    """Mail to subscribers needs a header and a visible link to leave the list."""
    look = shape.look
    headers = {name.lower(): value for name, value in look.rendered.headers}
    words = _LEAVE.search(f"{look.text or ''} {shape.page.shown_text if shape.page else ''}")
    if not shape.bulk:
        if words:
            yield Finding(
                "M213",
                f"the message speaks of leaving a list ({words[0]!r}) and has no List-Unsubscribe header",
                'headers = { List-Unsubscribe = "<https://...{{ token }}>", '
                'List-Unsubscribe-Post = "List-Unsubscribe=One-Click" }',
            )
        return
    targets = re.findall(r"<([^>]*)>", headers.get("list-unsubscribe", ""))
    bodies = (look.text or "", look.html or "")
    if not words and not any(target in body for target in targets for body in bodies):
        yield Finding(
            "M215",
            "there is no visible way to leave the list",
            "not every mail program shows the header: put the same link at the end of the message",
        )
