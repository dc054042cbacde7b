"""The whole run against the sandbox server: real engine, TLS and sign-in; nothing leaves this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge import files
from mailmerge.campaign.connect import connection_factory, find_account, pipelining_note, server_profile
from mailmerge.campaign.opening import Access, open_run
from mailmerge.campaign.plan import BUILT_IN
from mailmerge.campaign.run import Run
from mailmerge.campaign.workspace import MESSAGE_FILES
from mailmerge.clock import SystemClock, VirtualClock
from mailmerge.config.accounts import Account
from mailmerge.errors import CampaignFileError
from mailmerge.preview.messages import eml_name
from mailmerge.sandbox import FaultPlan, SandboxServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.plan import Plan
    from mailmerge.campaign.results import Report
    from mailmerge.campaign.run import SendRequest
    from mailmerge.clock import Clock
    from mailmerge.sandbox import ReceivedMessage
    from mailmerge.sending.runs import Progress, StopFlag

KEPT = 100
"""How many received messages are written to files."""


class Rehearsal(Struct, frozen=True):
    """The options of a rehearsal."""

    faults: FaultPlan = field(default_factory=FaultPlan)
    real_time: bool = False
    """Pace in real time; otherwise waits pass in virtual time."""


def rehearse(
    definition: Definition,
    request: SendRequest,
    rehearsal: Rehearsal,
    *,
    planned: Callable[[Plan], None],
    observe: Callable[[Progress], None],
    stop: StopFlag,
) -> Report:
    """Do the whole run against the sandbox; ledger and quota are discarded afterwards.

    Raises:
        MailmergeError: the campaign could not be sent either.

    """
    clock: Clock = SystemClock() if rehearsal.real_time else VirtualClock()
    account = _account(definition, request)
    out = definition.workspace.out / "rehearsal"
    with open_run(definition, Access.EMPTY, clock=clock) as opened:
        run = Run(opened, request, account, clock=clock, stop=stop, observe=observe)
        plan = replace(run.plan(), via=BUILT_IN)
        planned(plan)
        keeper = _Keeper(out / "messages")
        with SandboxServer(faults=rehearsal.faults, keep=keeper.keep, monotonic=clock.monotonic) as server:
            sandbox = replace(
                account,
                host=server.host,
                port=server.port,
                tls="starttls",
                user=server.user,
                auth="password",
                ca_file=server.ca_file,
                return_path=None,
            )
            profile = server_profile(sandbox)
            connect = connection_factory(
                sandbox, definition.environment, secret=lambda: server.password, profile=profile
            )
            end = run.execute(plan, connect)
            if text := pipelining_note(sandbox, profile, remembered=False):
                end = replace(end, notes=(*end.notes, text))
        report = run.report(end, out)
        took = opened.ledger.aggregates(lambda _keys: {}).runs()
        if took.started and took.ended:  # by the clock of the run, as the report page shows it
            report = replace(report, seconds=(took.ended - took.started).total_seconds())
        return report


def _account(definition: Definition, request: SendRequest) -> Account:
    try:
        return find_account(definition, ca_file=request.ca_file)
    except CampaignFileError:
        # A rehearsal needs no account of the user's own; a configured name that is wrong is still an error.
        if definition.file.account is not None:
            raise
        return Account(name="sandbox", host="localhost", auth="none", tls="none", any_from=True)


class _Keeper:
    """Writes the first messages that the server accepted to files, from the server's thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        with files.folder(folder):
            pass  # it exists, whether the server accepts a message or not
        files.clear(folder, MESSAGE_FILES)

    def keep(self, message: ReceivedMessage) -> None:
        """Keep one message, unless there are enough."""
        self._count += 1
        if self._count > KEPT:
            return
        files.write_file(self._folder / eml_name(self._count, message.rcpt_to[0]), message.content)
