"""Where mail is kept: an IMAP server's folder, a maildir, an mbox, or files of single messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from mailmerge.addresses import is_host
from mailmerge.errors import CampaignFileError
from mailmerge.text import quoted

Form = Literal["imap", "maildir", "mbox", "eml"]


class MailPlace(Struct, frozen=True):
    """One place of mail."""

    form: Form
    path: Path = Path()
    """The path of a maildir, an mbox, or a file or folder of single messages."""
    host: str = ""
    port: int = 993
    tls: Literal["tls", "starttls"] = "tls"
    user: str | None = None
    """Who signs in; None: the account's user."""
    folder: str = "INBOX"

    def __str__(self) -> str:
        return f"{self.folder} at {self.host}" if self.form == "imap" else str(self.path)


def imap_place(text: str) -> MailPlace:
    """Parse ``imap.example.org`` or ``imaps://user@imap.example.org:993/INBOX``.

    Raises:
        CampaignFileError: it is neither.

    """
    url = text if "://" in text else f"imaps://{text}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("imaps:")
    if parts.scheme not in {"imap", "imaps"} or not is_host(host) or parts.password is not None:
        shown = re.sub(r":[^/@]*@", ":***@", text)
        raise CampaignFileError(
            f"{quoted(shown)} does not name an IMAP mailbox",
            code="B801",
            hint="write imap.example.org, or imaps://user@imap.example.org/INBOX (without a password)",
        )
    secure = parts.scheme == "imaps"
    return MailPlace(
        "imap",
        host=host,
        port=port or (993 if secure else 143),
        tls="tls" if secure else "starttls",
        user=unquote(parts.username) if parts.username else None,
        folder=unquote(parts.path.strip("/")) or "INBOX",
    )


def named_place(text: str) -> MailPlace:
    """Parse an account's mailbox: ``maildir:PATH``, ``mbox:PATH``, or as `imap_place` does.

    Raises:
        CampaignFileError: it is not one of these.

    """
    form, colon, rest = text.partition(":")
    if colon and form in {"maildir", "mbox"} and rest:
        return MailPlace("maildir" if form == "maildir" else "mbox", Path(rest).expanduser())
    return imap_place(text)
