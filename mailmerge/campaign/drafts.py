"""``mailmerge drafts``: the messages go to the Drafts folder of the account's mailbox, for a person to send.

It is a run like any other, with another destination. An intent is durable before a message can be in the
folder, and an outcome after: ``drafted``. A hand-over without an answer is looked up by its Message-ID in the
next run: it is drafted if it is there, and stays in doubt if not, because a person may have sent it since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from mailmerge.campaign.connect import mail_server, mailbox_place
from mailmerge.errors import AuthError, CampaignFileError, ConnectionLost, SessionError, TlsError
from mailmerge.ledger.attempts import Settlement
from mailmerge.mail_folders.keeping import NotTakenError, imap_folder
from mailmerge.message.builder import with_bcc
from mailmerge.model import Outcome, Phase, Scope, Status
from mailmerge.sending.runs import Reason, RunEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from mailmerge.campaign.definition import Definition
    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.mail_folders.keeping import ImapFolder
    from mailmerge.mail_folders.mail_place import MailPlace
    from mailmerge.sending.runs import Progress, StopFlag
    from mailmerge.sending.work_queue import Job

DRAFTS = "Drafts"
_ROLE = rb"\Drafts"
CONNECTION = "drafts"
"""What attempts name in place of an SMTP connection."""
_LOOK_AGAIN = 0.5


def drafts_place(account: Account) -> MailPlace:
    """Return which server has the Drafts folder.

    Raises:
        CampaignFileError: none is configured.

    """
    place = mailbox_place(account)
    if place is None:
        raise CampaignFileError(
            "no server is named that has the mailbox for drafts",
            code="B840",
            hint=f'write it into [accounts.{account.name}]: imap = "imap.example.org"',
        )
    return place


def way_of(account: Account, *, drafts: bool) -> str:
    """Return where the messages of a run go, and as which user.

    Raises:
        CampaignFileError: they are to be drafts, and no mailbox is configured.

    """
    if drafts:
        return f"{DRAFTS} at {drafts_place(account).host}"
    return f"{account.host} as {account.user}" if account.user else account.host


class Drafter:
    """Puts the messages of one run into the Drafts folder; use it once.

    Args:
        definition: the campaign.
        account: whose mailbox it is.
        ledger: records intents and outcomes.
        clock: the time, and how to wait.
        stop: ends the run after the current message.
        observe: called at every step.
        ask_secret: asks a person for the mailbox's password; None: nobody can be asked.

    Raises:
        CampaignFileError: no mailbox is configured.

    """

    def __init__(
        self,
        definition: Definition,
        account: Account,
        ledger: Ledger,
        clock: Clock,
        stop: StopFlag,
        observe: Callable[[Progress], None],
        ask_secret: Callable[[str], str] | None,
    ) -> None:
        from mailmerge.sending.group_commit import ProgressTally

        self._ledger = ledger
        self._clock = clock
        self._stop = stop
        self._tally = ProgressTally(observe)
        self._next: Job | None = None
        """The message whose turn it is; it keeps its turn if the connection is lost before it is offered."""
        self._unanswered: Job | None = None
        self._done = 0
        """Messages put there on this connection."""
        self._server = mail_server(drafts_place(account), account, definition.environment, ask_secret)

    def _open(self) -> AbstractContextManager[ImapFolder]:
        return imap_folder(self._server, DRAFTS, _ROLE, self._stop.is_set)

    def run(
        self, jobs: Iterable[Job], unwanted: Callable[[Job], bool], held_until: Callable[[], float]
    ) -> RunEnd:
        """Put the messages there, each durably recorded before and after.

        Args:
            jobs: the messages.
            unwanted: returns whether a message whose turn has come must not be sent after all.
            held_until: returns until when at most nothing may be offered; 0: it may be now.

        Raises:
            LedgerError: the ledger cannot be written.
            Exception: what *jobs* or the observer raised.

        """
        waiting = iter(jobs)
        self._next = next(waiting, None)
        doubtful = self._ledger.without_answer(CONNECTION)
        if self._next is None and not doubtful:
            return RunEnd(Reason.FINISHED)
        try:
            end = None
            while end is None:
                end = self._one_connection(doubtful, waiting, unwanted, held_until)
                doubtful = []
        except (AuthError, TlsError) as error:
            end = RunEnd(Reason.REFUSED, error.message, error.hint, error)
        except SessionError as error:
            end = RunEnd(Reason.NETWORK, error.message, error.hint)
        finally:
            self._settle_unanswered(lambda _: False)
        if self._stop.is_set():
            end = RunEnd(Reason.INTERRUPTED, "stopped on request")
        if self._tally.failure is not None:
            raise self._tally.failure
        return replace(end, counts=self._tally.counts)

    def _one_connection(
        self,
        doubtful: Iterable[tuple[str, str]],
        jobs: Iterator[Job],
        unwanted: Callable[[Job], bool],
        held_until: Callable[[], float],
    ) -> RunEnd | None:
        """Put the messages there; None: the connection is lost, and another one is worth trying.

        Servers close a session when its token expires. One on which nothing was done is the last.
        """
        self._done = 0
        try:
            with self._open() as folder:
                self._look_up(folder, doubtful)
                self._settle_unanswered(folder.contains)
                return self._put_all(folder, jobs, unwanted, held_until)
        except ConnectionLost:
            if not self._done or self._stop.is_set():
                raise
            return None

    def _look_up(self, folder: ImapFolder, doubtful: Iterable[tuple[str, str]]) -> None:
        """Look up messages of an earlier run that got no answer."""
        found = [key for key, message_id in doubtful if folder.contains(message_id)]
        if found:
            self._ledger.found_drafts(found)

    def _put_all(
        self,
        folder: ImapFolder,
        jobs: Iterator[Job],
        unwanted: Callable[[Job], bool],
        held_until: Callable[[], float],
    ) -> RunEnd:
        while (job := self._next or next(jobs, None)) is not None:
            self._next = job
            while held_until() and not self._stop.is_set():
                self._clock.sleep(_LOOK_AGAIN)
            if self._stop.is_set() or self._tally.failure is not None:
                break
            folder.check()
            self._next = None
            if not unwanted(job):
                self._put(folder, job)
        return RunEnd(Reason.FINISHED)

    def _put(self, folder: ImapFolder, job: Job) -> None:
        message = job.message
        self._ledger.attempts.record_intent([job.attempt(CONNECTION)])
        try:
            folder.add(with_bcc(message), message.message_id, job.date)
        except NotTakenError:
            self._settle(job, Outcome(Status.PENDING, Scope.ACCOUNT, Phase.CONTENT, reason="drafts"))
            raise
        except BaseException:
            self._unanswered = job
            raise
        self._settle(job, Outcome(Status.DRAFTED, Scope.ROW, Phase.CONTENT))
        self._done += 1

    def _settle_unanswered(self, is_there: Callable[[str], bool]) -> None:
        """Settle the message whose hand-over got no answer, if there is one."""
        job = self._unanswered
        if job is None:
            return
        outcome = Outcome(Status.IN_DOUBT, Scope.CONNECTION, Phase.CONTENT, reason="dropped")
        if is_there(job.message.message_id):
            outcome = Outcome(Status.DRAFTED, Scope.ROW, Phase.CONTENT)
        self._unanswered = None
        self._settle(job, outcome)

    def _settle(self, job: Job, outcome: Outcome) -> None:
        counts = outcome.status is Status.DRAFTED
        settlement = Settlement(
            job.attempt(CONNECTION), outcome, outcome.status, self._clock.now(), counts=counts
        )
        self._ledger.attempts.record_outcomes([settlement])
        self._tally.row(job.message.row, job.address, outcome.status, outcome, 0)
