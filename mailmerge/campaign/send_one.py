"""One message from a script, without list, campaign or ledger."""

from __future__ import annotations

import os
import secrets
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge.addresses import AddressError, Mailbox, parse_address_list
from mailmerge.campaign.connect import connection_factory, hand_over
from mailmerge.config.accounts import Account, resolve_account
from mailmerge.config.environment import Environment
from mailmerge.errors import InputError
from mailmerge.message import MessageBuilder, Thawer
from mailmerge.message.dkim_keys import read_signatures
from mailmerge.model import AttachmentRule, Columns, Recipient, Rendered, RenderedAttachment
from mailmerge.plan.composer import identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailmerge.model import Message, Outcome

_NOBODY = Recipient(0, Columns((), ()), ())


def send_message(
    to: str | Sequence[str],
    subject: str,
    text: str,
    *,
    html: str | None = None,
    attachments: Sequence[Path | str] = (),
    from_: str | None = None,
    account: Account | str | None = None,
) -> Outcome:
    """Send one message now and return its outcome.

    Args:
        to: addresses, as one string (``Ann <ann@example.org>, bo@example.org``) or several.
        subject: the subject line.
        text: the text part.
        html: the HTML part, if there is one.
        attachments: files to attach.
        from_: the sender; default: the account's address.
        account: an account, with its secret or without, or the name of one or of a preset; default: the
            ``SMTP_*`` variables.

    Returns:
        The outcome; ``in_doubt`` if the reply was lost after the message had been handed over.

    Raises:
        InputError: an address, header or attachment is not valid.
        AuthError, TlsError, ConnectionLost, ProtocolError: the session could not be opened, or broke.

    """
    # If everything is given as arguments, no variable and no file is read.
    complete = isinstance(account, Account) and account.secret is not None
    environment = Environment({}) if complete else Environment.read(Path(), os.environ)
    if account is None or isinstance(account, str):
        account = resolve_account(account, environment=environment, campaign_from=from_, flags=False)
    sender = _mailboxes(from_)[0] if from_ else account.from_
    if sender is None:
        raise InputError("no sender given", code="C460", hint="give from_, or set SMTP_FROM")
    message = _build(account, sender, to, subject, (text, html), [Path(path) for path in attachments])
    connection = connection_factory(account, environment)()
    try:
        connection.open()
        return hand_over(connection, message)
    finally:
        connection.close()


def _build(
    account: Account,
    sender: Mailbox,
    to: str | Sequence[str],
    subject: str,
    bodies: tuple[str, str | None],
    paths: Sequence[Path],
) -> Message:
    rendered = Rendered(
        recipient=_NOBODY,
        from_=sender,
        to=_mailboxes(to),
        subject=subject,
        text=(bodies[0],),
        html=None if bodies[1] is None else (bodies[1],),
        attachments=tuple(
            RenderedAttachment(index, path.name, fixed=True) for index, path in enumerate(paths)
        ),
    )
    builder = MessageBuilder(
        version="one message",
        base=Path(),
        rules=[AttachmentRule(path.name, base=path.parent) for path in paths],
    )
    frozen = builder.freeze(rendered, key=secrets.token_hex(8))
    return Thawer().thaw(
        frozen,
        message_id=identifier(secrets.token_bytes(16), frozen),
        date=datetime.now().astimezone(),
        mail_from=account.return_path,
        signatures=read_signatures(account.dkim),
    )


def _mailboxes(texts: str | Sequence[str]) -> tuple[Mailbox, ...]:
    found: list[Mailbox] = []
    for text in [texts] if isinstance(texts, str) else texts:
        try:
            found.extend(parse_address_list(text))
        except AddressError as error:
            raise InputError(
                f"{text!r} is not a valid address: {error}", code="D110", hint=error.suggestion
            ) from None
    if not found:
        raise InputError("no recipient given", code="D110")
    return tuple(found)
