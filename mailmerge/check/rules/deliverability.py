"""Rules about what providers reject, cut off or require, for one message and for the list as a whole."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from mailmerge.check.clients import client_data
from mailmerge.check.message_view import Finding
from mailmerge.check.rules import each_layout, each_message, each_message_with_files, whole_list
from mailmerge.lazy_re import lazy_re
from mailmerge.rulebook import rules_of
from mailmerge.text import figure, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.check.message_view import ListTally, MessageLayout, MessageView
    from mailmerge.model import FrozenMessage, Rate
    from mailmerge.providers import Provider

_BLOCKED = lazy_re(
    r"\.(?:ade|adp|apk|appx|bat|cab|chm|cmd|com|cpl|dll|dmg|exe|hta|ins|iso|isp|jar|js|jse|lib|lnk|mde|msc|msi"
    r"|msix|msp|mst|nsh|pif|ps1|scr|sct|shb|sys|vb|vbe|vbs|vxd|wsc|wsf|wsh)\Z",
    re.IGNORECASE,
)
"""File types that Gmail rejects, even inside archives (its help page "File types blocked in Gmail")."""
_CLIPPED = 102 * 1024
_LARGE = 10 * 1024 * 1024
_LEAVE = lazy_re(
    r"(?:unsubscri|opt[ -]?out|no more (?:letters|mail|e-mail)"
    r"|abmeld|abbestell|désabonn|desabonn|se désinscrire"
    r"|darse de baja|cancelar suscri|disiscri|cancella.{0,12}iscrizione|afmeld|uitschrijv"
    r"|wypisz|avprenumerera"
    r"|отпис|退订|取消订阅|退訂|配信停止|購読解除|수신거부)\w*",
    re.IGNORECASE,
)
_LEAVE_STEMS = (
    "unsubscri", "opt", "no more", "abmeld", "abbestell", "désabonn", "desabonn", "désinscrire", "baja",
    "suscri", "iscri", "afmeld", "uitschrijv", "wypisz", "avprenumerera",
    "отпис", "退订", "取消订阅", "退訂", "配信停止", "購読解除", "수신거부",
)  # fmt: skip
"""One of them is in whatever `_LEAVE` finds: looking for them is a hundred times as quick."""
_ENOUGH = 3
"""A smaller number of rows with the same unsubscribe link may belong together."""


@each_message_with_files
def blocked_attachment(view: MessageView) -> Iterator[Finding]:
    """Find attachments of file types that Gmail and others reject."""
    for attachment in view.rendered.attachments:
        if _BLOCKED.search(attachment.name or attachment.path):
            yield Finding(
                "A305",
                f"most mail providers reject attachments like {attachment.name or attachment.path}",
                "put the file on a server and send a link",
            )


@each_message_with_files
def slash_in_name(view: MessageView) -> Iterator[Finding]:
    """Find a name with a slash, which no file name can contain."""
    for attachment in view.rendered.attachments:
        name = attachment.name
        if name and ("/" in name or "\\" in name):
            yield Finding(
                "A214",
                f"the attachment's name contains a slash: {quoted(name)}; it becomes a hyphen",
                "no file name can contain one: use another character, as in {{ number|replace('/', '-') }}",
            )
            return


@each_message_with_files
def shortened_name(view: MessageView) -> Iterator[Finding]:
    """Find an attachment's name that was shortened, or that characters were removed from."""
    for file in view.message.files:
        if file.wanted:
            yield Finding(
                "A220",
                f"the attachment's name was shortened: {quoted(file.wanted)} becomes {quoted(file.name)}",
                "a name has at most 240 bytes, and no characters that are invisible or reverse the text",
            )


@each_message_with_files
def name_twice(view: MessageView) -> Iterator[Finding]:
    """Find attachments with the same name: readers cannot tell them apart, some programs save only one."""
    files = view.message.files
    if len(files) < 2:
        return
    names = Counter(file.name.casefold() for file in files if not file.content_id)
    for file in files:
        if names.pop(file.name.casefold(), 1) > 1:
            yield Finding(
                "A221",
                f"two attachments of the message have the same name: {quoted(file.name)}",
                'give one of them another name: name = "..." in its [[attach]]',
            )


@each_message
def size(view: MessageView) -> Iterator[Finding]:
    """Find messages that Gmail cuts off, or that are too large for many servers."""
    # A part is smaller than the message, and encoding makes text at most three times as long.
    if view.message.size > _CLIPPED and sum(map(len, view.rendered.html or ())) * 3 > _CLIPPED:
        octets = _html_octets(view.message)
        if octets > _CLIPPED:
            yield Finding(
                "M211",
                f"the HTML is larger than {_CLIPPED // 1024} KB: Gmail clips it there",
                f"it has {octets:,} bytes as sent: shorten it, or link to the rest",
            )
    if view.message.size > _LARGE:
        yield Finding(
            "M212",
            f"the message is larger than {_LARGE // 1024 // 1024} MB",
            f"it has {view.message.size:,} bytes; many servers reject such mail: send a link instead",
        )


def _html_octets(message: FrozenMessage) -> int:
    """Return the size of the encoded HTML part in octets, without images."""
    before = b""
    for piece in message.body:
        if isinstance(piece, bytes):
            if b"Content-Type: text/html" in before[-200:]:
                return len(piece)
            before = piece
    return 0


@each_layout
def ways_out(layout: MessageLayout) -> Iterator[Finding]:
    """Find mail to subscribers without a List-Unsubscribe header or a visible unsubscribe link."""
    view, document = layout.view, layout.document
    headers = {name.lower(): value for name, value in view.rendered.headers}
    shown = f"{view.text or ''} {document.shown_text if document else ''}"
    low = shown.lower()
    words = _LEAVE.search(shown) if any(stem in low for stem in _LEAVE_STEMS) else None
    if not layout.bulk:
        if words:
            yield Finding(
                "M213",
                f"the message mentions unsubscribing ({words[0]!r}) but has no List-Unsubscribe header",
                'write unsubscribe = "https://example.org/u/{{ token }}" under [message]',
            )
        return
    targets = re.findall(r"<([^>]*)>", headers.get("list-unsubscribe", ""))
    bodies = (view.text or "", view.html or "")
    if not words and not any(target in body for target in targets for body in bodies):
        yield Finding(
            "M215",
            "the message has no visible unsubscribe link",
            "not every mail program shows the header: put the link, {{ unsubscribe_url }}, at the end",
        )


_ADDRESS = lazy_re(
    r"""(?<![\w./-])(?:(?!(?:19|20)\d\d(?!\d))\d{4,7}|\d{3}\ \d{2}|\d{2}-\d{3})(?![\w-])
    |(?<![\w./-])(?:19|20)\d\d\s+[^\W\d_]{2}
    |\b[A-Z]{1,2}\d[A-Z\d]?\ ?\d[A-Z]{2}\b|\b[A-Z]\d[A-Z]\ ?\d[A-Z]\d\b|〒|邮编
    |\bP\.?\ ?O\.?\ ?Box\b|\bpostfach\b|\bapartado\b|\bcasella\ postale\b|\bpostbus\b
    |\d\S{0,3},?\ (?:\w+[ .]){0,4}(?:street|st\.|road|rd\.|ave(?:nue)?|lane|drive|square|blvd|boulevard|way)\b
    |(?:straße|strasse|str\.|weg|platz|gasse|gade|vej|gatan|gata|straat|laan|utca)\ \d
    |\b(?:rue|avenue|via|viale|piazza|calle|carrer|plaza|rua|ulica|ul\.)\ |[路街道]\s*\d+\s*[号號]""",
    re.IGNORECASE | re.VERBOSE,
)
"""What a postal address contains in most countries: a postcode, a box, or a street with a number."""


@each_layout
def postal_address(layout: MessageLayout) -> Iterator[Finding]:
    """Find mail to subscribers without a postal address, which the laws of several countries require."""
    if not layout.bulk:
        return
    shown = (layout.view.text, layout.document.shown_text if layout.document else None)
    if not any(_ADDRESS.search(_without_links(text)) for text in shown if text):
        yield Finding(
            "M224",
            "no postal address of the sender was found in the message",
            "write it at the end: CAN-SPAM (United States), CASL (Canada) and the laws of other countries "
            "require it in mail that advertises something",
        )


def _without_links(text: str) -> str:
    return " ".join([word for word in text.split() if "://" not in word and "@" not in word])


# --- the list as a whole -----------------------------------------------------------------------------


@whole_list
def same_unsubscribe_link(tally: ListTally) -> Iterator[Finding]:
    """Find an unsubscribe link that is the same for all rows: one reader's click would remove another."""
    if tally.unsubscribe is None or tally.rows < _ENOUGH or len(tally.unsubscribe_values) != 1:
        return
    header, place = tally.unsubscribe
    (value,) = tally.unsubscribe_values
    if "{" in header and value:
        yield Finding(
            "M502",
            "every row has the same List-Unsubscribe, although it is built from a column",
            "every click would unsubscribe the same person: does the column have the same value everywhere?",
            place,
        )
    elif re.search(r"<https:", value):
        yield Finding(
            "M216",
            "List-Unsubscribe has the same https address in every row: the server cannot tell who clicked",
            "put something that identifies the row into it: https://example.org/u/{{ token }}",
            place,
        )


@whole_list
def bulk_rules(tally: ListTally) -> Iterator[Finding]:
    """Find lists to which the rules of Gmail, Yahoo and Outlook.com for bulk senders apply."""
    for rule in rules_of("bulk"):
        count = sum(tally.programs[program] for program in rule.programs)
        if count >= rule.at_least:
            yield Finding(
                "M220",
                f"{count:,} messages go to {rule.title}: its rules for bulk senders apply from "
                f"{rule.at_least:,} a day",
                rule.hint,
            )


@whole_list
def client_support(tally: ListTally) -> Iterator[Finding]:
    """Yield one finding for each construct that mail programs do not support, the worst first."""
    if not tally.constructs:
        return
    data = client_data()
    for slug, construct in sorted(tally.constructs.items(), key=lambda item: -data.features[item[0]].share):
        support = data.features[slug]
        own = sum(tally.programs[client] for client in support.without)
        readers = f"; {own:,} of {tally.rows:,} addresses use them" if own else ""
        times = f"used {construct.count} times; " if construct.count > 1 else ""
        yield Finding(
            "H214",
            f"{support.title} is not supported by {len(support.without)} of {support.tested} mail programs "
            f"({support.share:.0%}): {data.names(support.without)}{readers}",
            f"{times}tested by caniemail.com, data of {data.date}; see how the message looks without it",
            construct.place,
        )


def unsigned_unsubscribe(provider: Provider) -> Iterator[Finding]:
    """Find one-click unsubscribe headers that no DKIM signature covers: receivers then do not offer it."""
    if provider.signs_unsubscribe is False:
        yield Finding(
            "M223",
            f"{provider.title} does not sign the headers of one-click unsubscribing",
            "so mail programs do not offer it: sign yourself (`dkim` in the account, docs/dkim.md) or use "
            "a service that signs them",
        )


def longer_than_a_day(to_send: int, quota: Rate | None) -> Iterator[Finding]:
    """Find a run that the account's quota stretches over several days."""
    if quota is None or to_send <= quota.count:
        return
    windows = -(-to_send // quota.count)
    unit = "days" if quota.seconds == 86400 else f"windows of {figure(quota.seconds / 3600)} h"
    yield Finding(
        "M221",
        f"{to_send:,} messages exceed the account's quota of {quota}: the run takes {windows} {unit}",
        "each run stops when the quota is used up and shows when to run again; nothing is lost or sent twice",
    )
