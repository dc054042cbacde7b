"""From a plan in the database to messages that are sent, without the machine that planned them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from mailmerge.errors import PlanDamaged, RowError
from mailmerge.message import Thawer, open_token
from mailmerge.message.dkim_keys import read_signatures
from mailmerge.message.file_search import FileProblem
from mailmerge.plan.server_store import LARGEST, PIECE
from mailmerge.text import quoted

if TYPE_CHECKING:
    from datetime import datetime

    from mailmerge.config.accounts import Account
    from mailmerge.message.attachments import FileState
    from mailmerge.model import FrozenFile, FrozenMessage, Message
    from mailmerge.plan.server_store import ServerPlan
    from mailmerge.postgres import PostgresDatabase

_UNCHANGING: Final = (0, 0, 0, 0, 0)
_LOAD_AGAIN: Final = "send the campaign from its folder again: what is missing is loaded again"


class StoredFiles:
    """The files of messages in the database; see `mailmerge.message.attachments.FileContents`."""

    def __init__(self, db: PostgresDatabase) -> None:
        self.db = db

    def state(self, file: FrozenFile) -> FileState:
        """See `FileContents`: under its digest nothing changes."""
        if not 0 <= file.size <= LARGEST:
            raise _damaged(file)
        return _UNCHANGING

    def read(self, file: FrozenFile) -> bytes:
        """See `FileContents`; no more is read than its length."""
        query = "SELECT content FROM blob_piece WHERE sha256 = ? AND piece = ? AND octet_length(content) <= ?"
        try:
            sha256 = bytes.fromhex(file.sha256)
        except ValueError:
            raise _damaged(file) from None
        content = bytearray()
        for at in range(-(-file.size // PIECE)):
            found = self.db.row(query, (sha256, at, min(PIECE, file.size - len(content))))
            if found is None:
                raise _damaged(file)
            content += found[0]
        return bytes(content)


class WorkerThawer:
    """Makes the messages of a plan in the database, as the machine that planned them would send them.

    Args:
        plan: where messages and files are; its connection is used.
        account: who sends: its return path, and its DKIM keys.
        keep: limits the memory for encoded files, in octets.

    Raises:
        CampaignFileError: a DKIM key of the account cannot be used.

    """

    def __init__(self, plan: ServerPlan, account: Account | None = None, *, keep: int = 64 << 20) -> None:
        self.plan = plan
        self._mail_from = account.return_path if account else None
        self._signatures = read_signatures(account.dkim) if account else None
        self._files = StoredFiles(plan.db)
        self._thawer = Thawer(keep, self._files)

    def use(self, plan: ServerPlan) -> None:
        """Continue with another connection to the same plan."""
        self.plan = plan
        self._files.db = plan.db

    def message(self, number: int, row: int) -> FrozenMessage:
        """Return a frozen message of the plan.

        Args:
            number: the message's.
            row: whose it is, for messages to a person.

        Raises:
            RowError: it is not what was loaded (L752): this row cannot be sent, the others can.

        """
        try:
            return self.plan.message(number)
        except PlanDamaged as error:
            raise RowError(error.message, code="L752", hint=_LOAD_AGAIN, row=row) from error

    def show(self, frozen: FrozenMessage, *, message_id: str, date: datetime) -> Message:
        """Make a message that is only shown: its unsubscribe links belong to nobody.

        Raises:
            RowError, SecretLeak: see `thaw`.

        """
        head, body = open_token.emptied(frozen.head, frozen.body, frozen.envelope.rcpt_to[0])
        return self._thawer.thaw(
            replace(frozen, head=head, body=body), message_id=message_id, date=date, mail_from=self._mail_from
        )

    def thaw(self, frozen: FrozenMessage, *, message_id: str, date: datetime) -> Message:
        """Make a message.

        Args:
            frozen: its content.
            message_id: see `mailmerge.plan.composer.identifier`; the secret is the campaign's in the ledger.
            date: aware.

        Raises:
            RowError: a file of it is not what was loaded (L753), or its unsubscribe link is not filled in.
            SecretLeak: it contains a secret that is in use here.

        """
        if open_token.is_in(frozen.head):
            raise RowError(
                "the message has no unsubscribe link that works",
                code="L752",
                hint=_LOAD_AGAIN,
                row=frozen.row,
            )
        return self._thawer.thaw(
            frozen, message_id=message_id, date=date, mail_from=self._mail_from, signatures=self._signatures
        )


def _damaged(file: FrozenFile) -> FileProblem:
    return FileProblem(
        "L753", f"the stored content of {quoted(file.name)} is missing or damaged", _LOAD_AGAIN
    )
