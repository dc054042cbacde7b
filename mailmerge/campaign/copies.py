"""Copies of accepted messages in the user's own mail: what ``copy_to`` asks for.

A copy is made after the server has accepted the message, never before, and nothing about it touches a row's
state: a failure is reported, and the next `send` makes the copies that are missing. The bytes are made from
the plan once more, with the Message-ID and the Date that were sent, so that nothing has to be kept while
messages are sent, and only one is in memory.

Mail programs keep the Bcc field in the Sent folder, where nobody else sees it: so does a copy.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.campaign.connect import mail_server, mailbox_place
from mailmerge.errors import CampaignFileError, ConnectionLost, MailmergeError, PlanDamaged, RowError
from mailmerge.text import plural, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.opening import OpenCampaign
    from mailmerge.campaign.plan import Plan
    from mailmerge.config.accounts import Account
    from mailmerge.ledger.copies import Uncopied
    from mailmerge.mail_folders.keeping import MailFolder, NotTakenError
    from mailmerge.mail_folders.mail_place import MailPlace
    from mailmerge.model import Message
    from mailmerge.plan.composer import Composer
    from mailmerge.plan.store import PlanReader, PlanRow
    from mailmerge.sending.runs import StopFlag

_AT_A_TIME = 50
"""Copies whose marks are written together."""
_MOST_REFUSED = 3
"""How many messages the server may refuse before no more are tried."""
SENT = rb"\Sent"


class CopyPlace(Struct, frozen=True):
    """Where copies go."""

    form: str
    """``imap``, ``maildir`` or ``mbox``."""
    folder: str = ""
    server: MailPlace | None = None
    path: Path = Path()
    keeps_sent: bool = False
    """The provider puts accepted messages there by itself: a copy is looked for before it is made."""

    def __str__(self) -> str:
        return f"{self.folder} at {self.server.host}" if self.server else str(self.path)


def copy_place(definition: Definition, account: Account) -> CopyPlace | None:
    """Return where the copies of a campaign's messages go; None: none are made.

    The campaign's own ``copy_to`` names a folder of the account's mailbox, or a file in the campaign's
    folder: it may have come from anybody. That of the account may name any file.

    Raises:
        CampaignFileError: the account does not name its mailbox, or a path leads elsewhere.

    """
    own = definition.file.send.copy_to
    wanted = own or account.copy_to
    if wanted is None:
        return None
    form, _, rest = wanted.partition(":")
    if form == "imap":
        server = mailbox_place(account)
        if server is None:
            raise CampaignFileError(
                f"copy_to is {quoted(wanted)}, but no server of the mailbox is named",
                code="B840",
                hint=f'write it into [accounts.{account.name}]: imap = "imap.example.org"',
            )
        preset = account.preset
        return CopyPlace("imap", rest.strip(), server, keeps_sent=preset is not None and preset.keeps_sent)
    path = Path(rest).expanduser()
    if own is not None:
        folder = definition.file.folder.resolve()
        path = (folder / path).resolve()
        if not path.is_relative_to(folder) or path == folder:
            raise CampaignFileError(
                f"copy_to of the campaign leads out of its folder: {quoted(rest)}",
                code="B841",
                hint="name a place in it; the account's own `copy_to` may name any",
            )
    elif not path.is_absolute():
        raise CampaignFileError(
            f"copy_to of account {account.name} is not a full path: {quoted(rest)}",
            code="B841",
            hint=f'write it from the root, or from your home: "{form}:~/{rest}"',
        )
    return CopyPlace(form, path=path)


class SentCopies:
    """The copies of one run.

    Args:
        opened: the campaign, whose ledger has the marks.
        account: who sends, and whose mailbox it is.
        ask_secret: asks a person for the mailbox's password; None: nobody can be asked.
        stop: ends it after the current copy.
        drafts: the run sends nothing, so it makes no copies either.

    Raises:
        CampaignFileError: ``copy_to`` cannot be understood.

    """

    def __init__(
        self,
        opened: OpenCampaign,
        account: Account,
        ask_secret: Callable[[str], str] | None,
        stop: StopFlag,
        *,
        drafts: bool = False,
    ) -> None:
        self._definition = opened.definition
        self._ledger = opened.ledger
        self._account = account
        self._ask_secret = ask_secret
        self._stop = stop
        self._impossible = 0
        self._refused: list[NotTakenError] = []
        self.place = None if drafts else copy_place(opened.definition, account)

    def announced(self, plan: Plan) -> Plan:
        """Return the plan with a note about where copies go, and how many are missing."""
        if self.place is None:
            return plan
        left = self._ledger.copies.left()
        missing = f"; {plural(left, 'copy', 'copies')} of earlier messages missing" if left else ""
        notice = f"a copy of each accepted message goes to {self.place}{missing}"
        return replace(plan, notices=(*plan.notices, notice))

    @property
    def pending(self) -> bool:
        """Whether copies are missing that a later run can make."""
        return self.place is not None and self._ledger.copies.left() > self._impossible

    def make(self, reader: PlanReader, composer: Composer) -> Iterator[str]:
        """Make the missing copies; yield what a person should know, one sentence each.

        Raises:
            LedgerError: a mark cannot be written.

        """
        if self.place is None or self._stop.is_set() or not self._ledger.copies.left():
            return
        try:
            while not self._made(reader, composer):
                pass
            if self._refused:
                yield self._failed(self._refused[0])
        except (MailmergeError, OSError) as error:
            yield self._failed(error)
        if self._impossible:
            these = plural(self._impossible, "message")
            yield f"no copy of {these}: list, templates or files have changed since they were sent"

    def _made(self, reader: PlanReader, composer: Composer) -> bool:
        """Make the copies; return False if the connection is lost and another one is worth trying.

        Servers close a session when its token expires. One on which nothing was done is the last.
        """
        left, self._impossible, self._refused = self._ledger.copies.left(), 0, []
        try:
            with contextlib.ExitStack() as stack:
                self._make(reader, composer, lambda: stack.enter_context(self._open()))
        except ConnectionLost:
            if self._stop.is_set() or self._ledger.copies.left() == left:
                raise
            return False
        return True

    def _failed(self, error: MailmergeError | OSError) -> str:
        words = error.message if isinstance(error, MailmergeError) else str(error)
        left = plural(self._ledger.copies.left(), "copy is", "copies are")
        return f"{left} missing at {self.place}: {words}; no row is affected, and the next run makes them"

    def _open(self) -> AbstractContextManager[MailFolder]:
        from mailmerge.mail_folders.keeping import imap_folder, maildir_folder, mbox_folder

        place = self.place
        assert place is not None
        if place.server is not None:
            server = mail_server(place.server, self._account, self._definition.environment, self._ask_secret)
            return imap_folder(server, place.folder, SENT, self._stop.is_set)
        return (maildir_folder if place.form == "maildir" else mbox_folder)(place.path)

    def _make(self, reader: PlanReader, composer: Composer, open_it: Callable[[], MailFolder]) -> None:
        after = -1
        folder: MailFolder | None = None
        while not self._stop.is_set() and (batch := self._ledger.copies.uncopied(after, _AT_A_TIME)):
            after = batch[-1].attempt
            rows = reader.holders([one.key for one in batch])
            known = [(one, row) for one in batch if _is_of(one, row := rows.get(one.key)) and row is not None]
            self._impossible += len(batch) - len(known)
            if known:
                folder = folder or open_it()
                self._put(known, folder, reader, composer)

    def _put(
        self,
        known: Sequence[tuple[Uncopied, PlanRow]],
        folder: MailFolder,
        reader: PlanReader,
        composer: Composer,
    ) -> None:
        """Make the copies of one batch: that they are begun is on disk before the first may exist."""
        from mailmerge.mail_folders.keeping import NotTakenError
        from mailmerge.message.builder import with_bcc

        self._ledger.copies.begin(one.attempt for one, _ in known)
        made: list[int] = []
        untouched = {one.attempt for one, _ in known if not one.begun}
        keyed = self._definition.file.data.key is not None
        look_first = self.place is not None and self.place.keeps_sent
        try:
            for one, row in known:
                if self._stop.is_set():
                    return
                message = _message(one, row, reader, composer, keyed=keyed)
                if message is None:
                    self._impossible += 1
                    continue
                if (one.begun or look_first) and folder.contains(one.message_id):
                    made.append(one.attempt)
                    continue
                untouched.discard(one.attempt)
                try:
                    folder.add(with_bcc(message), one.message_id, one.date)
                    made.append(one.attempt)
                except NotTakenError as error:
                    untouched.add(one.attempt)
                    self._refused.append(error)
                    if len(self._refused) == _MOST_REFUSED:  # the message is not the reason
                        raise
        finally:
            self._ledger.copies.settle(made, untouched)


def _is_of(one: Uncopied, row: PlanRow | None) -> bool:
    """Return whether a row of the plan still makes the message that was sent."""
    return row is not None and row.message is not None and row.frozen == one.frozen


def _message(
    one: Uncopied, row: PlanRow, reader: PlanReader, composer: Composer, *, keyed: bool
) -> Message | None:
    """Make the message once more as it was sent; None: that is not possible any more."""
    try:
        frozen = composer.planned(reader, row, keyed=keyed)
        return composer.thaw(frozen, message_id=one.message_id, date=one.date)
    except (RowError, PlanDamaged):
        return None
