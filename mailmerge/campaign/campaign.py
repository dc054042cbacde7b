"""`Campaign`: a list, templates and an account, and everything that can be done with them."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge.campaign import standard_input
from mailmerge.campaign.definition import (
    NO_MESSAGE,
    Definition,
    by_name,
    is_whole,
    ledger_of,
    named_alone,
)
from mailmerge.campaign.elsewhere import read_folder
from mailmerge.campaign.opening import (
    Access,
    forget_ledger,
    move_ledger,
    open_run,
    open_standing,
    refuse_superseded,
)
from mailmerge.campaign.workspace import Workspace, user_state_folder
from mailmerge.config import campaign_file
from mailmerge.config.environment import Environment
from mailmerge.plan.cache import user_cache_folder
from mailmerge.recipients import from_dataframe, from_rows, parse_rows
from mailmerge.sending.runs import NeverStop
from mailmerge.suggest import Invocation, suggested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Unpack

    import pandas as pd

    from mailmerge.campaign.bounces import BounceRequest, BounceSummary
    from mailmerge.campaign.check import OnlineChecks
    from mailmerge.campaign.continuation import CampaignStatus, Continuation
    from mailmerge.campaign.fleet import Fleet
    from mailmerge.campaign.in_memory import CampaignOptions
    from mailmerge.campaign.plan import Plan
    from mailmerge.campaign.preview import Previewed, PreviewRequest
    from mailmerge.campaign.rehearsal import Rehearsal
    from mailmerge.campaign.results import Report, ReportOptions
    from mailmerge.campaign.run import SendRequest
    from mailmerge.campaign.trial import TrialReport
    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.config.campaign_file import CampaignFile
    from mailmerge.ledger.attempts import Settlement
    from mailmerge.model import Message, Result
    from mailmerge.options import Jobs
    from mailmerge.recipients import RecipientList
    from mailmerge.sending.runs import Progress, StopFlag
    from mailmerge.suggest import Suggestion


class Campaign:
    """One campaign: what to send, to whom, and what happened so far.

    Each command of the command line is one of its methods.

    Args:
        file: the options that its author set.
        environment: variables for accounts and secrets; default: the process's own and ``.env``.
        out: folder of reports; default: ``out`` in the campaign's folder.
        recipients: the list, where it is not the file that *file* names.
        invocation: how a command line names it; default: by its file, or its list and name.
        account: who sends, where it is not the account that *file* names.

    """

    def __init__(
        self,
        file: CampaignFile,
        *,
        environment: Environment | None = None,
        out: Path | None = None,
        recipients: RecipientList | None = None,
        invocation: Invocation | None = None,
        account: Account | None = None,
    ) -> None:
        environment = environment or Environment.read(file.folder, os.environ)
        workspace = Workspace(
            file.folder,
            out or file.folder / "out",
            user_state_folder(environment),
            user_cache_folder(environment),
        )
        workspace.sweep()
        named, piped = invocation or by_name(file, out), standard_input.of(file, workspace)
        ledger = ledger_of(file, environment, named) if file.ledger else None
        self.definition = Definition(file, environment, workspace, named, recipients, account, piped, ledger)

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        options: Mapping[str, object] | None = None,
        *,
        settings: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        out: Path | None = None,
        account: Account | None = None,
        ledger_only: bool = False,
        invocation: Invocation | None = None,
    ) -> Campaign:
        """Open the campaign in a folder (or its ``.toml`` file), or one that *options* describe alone.

        Args:
            path: folder or file; None: the working directory, unless *options* are a whole campaign.
            options: values by name, such as ``data.source`` or ``message.subject``; None means not given.
            settings: strings ``section.key=value``.
            environ: environment variables.
            out: folder of reports.
            account: who sends, with its secret or without; takes precedence over the option of that name.
            ledger_only: the message does not matter; a name and a ledger are enough, if that has the plan.
            invocation: the command line that named it; None: a program did.

        Raises:
            CampaignFileError: with every problem in it.

        """
        given = {name: value for name, value in (options or {}).items() if value is not None}
        alone = path is None and ledger_only and "data.source" in given
        if alone:
            given = {**NO_MESSAGE, **given}
        if path is None and ledger_only and named_alone(given, environ or os.environ):
            from mailmerge.campaign.stored import open_stored

            opening = partial(open_stored, cls.from_options, given)
        elif alone or (path is None and is_whole(given)):
            opening = partial(cls.from_options, given)
        else:
            opening = partial(cls.from_folder, path or ".", given)
        return opening(settings=settings, environ=environ, out=out, account=account, invocation=invocation)

    @classmethod
    def from_folder(
        cls,
        path: Path | str,
        options: Mapping[str, object] | None = None,
        *,
        settings: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        out: Path | None = None,
        account: Account | None = None,
        invocation: Invocation | None = None,
    ) -> Campaign:
        """Open the campaign in a folder or in a ``.toml`` file; the options given override those of the file.

        Raises:
            CampaignFileError: with every problem in it.

        """
        path = Path(path)
        invocation = invocation or Invocation.programmed(path, options or {}, settings=settings, out=out)
        file, environment, theirs = read_folder(
            path,
            options or {},
            settings,
            os.environ if environ is None else environ,
            command=invocation.command,
        )
        account = account or theirs
        return cls(file, environment=environment, out=out, account=account, invocation=invocation)

    @classmethod
    def from_options(
        cls,
        options: Mapping[str, object],
        *,
        settings: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        out: Path | None = None,
        account: Account | None = None,
        invocation: Invocation | None = None,
    ) -> Campaign:
        """Make a campaign without a file; its folder is that of its list, ``data.source``.

        Raises:
            CampaignFileError: with every problem in it.

        """
        folder = Path(str(options.get("data.source") or "")).parent
        environment = Environment.read(folder, os.environ if environ is None else environ)
        invocation = invocation or Invocation.programmed(None, options, settings=settings, out=out)
        file = campaign_file.from_options(
            folder, options, settings=settings, environ=environment.real, typed=invocation.typed
        )
        return cls(file, environment=environment, out=out, account=account, invocation=invocation)

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, object]], **options: Unpack[CampaignOptions]) -> Campaign:
        """Make a campaign from rows that a program has, and templates given as strings.

        Args:
            rows: one mapping per recipient, from headings to values: strings, numbers, dates, times,
                durations, booleans; None is an empty cell. Read once, now, and kept, many of
                them in a private temporary file.
            options: see `CampaignOptions`.

        Raises:
            TypeError, ValueError: an argument is not known, or there is neither *name* nor *state*.
            CampaignFileError: with every problem in the options.
            ListError: the rows cannot be a list.

        """
        from mailmerge.campaign import in_memory

        return cls._of(in_memory.define(partial(from_rows, rows), "the rows", options))

    @classmethod
    def from_dataframe(cls, frame: pd.DataFrame, **options: Unpack[CampaignOptions]) -> Campaign:
        """Make a campaign from a pandas data frame and templates given as strings.

        Args:
            frame: one row per recipient; the column labels are the headings.
            options: see `CampaignOptions`.

        Raises:
            TypeError, ValueError: an argument is not known, or there is neither *name* nor *state*.
            CampaignFileError: with every problem in the options.
            ListError: the frame cannot be a list.

        """
        from mailmerge.campaign import in_memory

        return cls._of(in_memory.define(partial(from_dataframe, frame), "the data frame", options))

    @classmethod
    def _of(cls, definition: Definition) -> Campaign:
        campaign = cls.__new__(cls)
        campaign.definition = definition
        definition.workspace.sweep()
        return campaign

    @property
    def name(self) -> str:
        """The campaign's name, its identity in the ledger."""
        return self.definition.name

    @property
    def file(self) -> CampaignFile:
        """The options that its author set."""
        return self.definition.file

    @property
    def environment(self) -> Environment:
        """Variables for accounts and secrets."""
        return self.definition.environment

    @property
    def workspace(self) -> Workspace:
        """Its folders and files."""
        return self.definition.workspace

    # --- looking -----------------------------------------------------------------------------------------

    def check(
        self,
        *,
        progress: Callable[[int], None] | None = None,
        online: OnlineChecks | None = None,
        jobs: Jobs = 1,
    ) -> Plan:
        """Render every row and collect all problems; write nothing, and contact only what *online* allows.

        Args:
            progress: called now and then with the number of rows checked.
            online: what may be asked of other machines.
            jobs: how many processes plan a long list; ``auto``: one for each processor, at most 8.

        Raises:
            ListError: the list cannot be read.
            TemplateError: templates that do not compile.

        """
        from mailmerge.campaign import check

        return check.check(self.definition, progress=progress or _ignore, online=online, jobs=jobs)

    def plan(self, *, progress: Callable[[int], None] | None = None, jobs: Jobs = 1) -> Plan:
        """Make the plan: every row's message or why it has none, all problems, and what would be sent now.

        Pass the plan to `send`, so that exactly what was looked at is sent. It is taken from the cache while
        nothing has changed. It is kept in the folder ``cache`` of the campaign's *state*, or else in the
        user's cache folder; nothing is written anywhere else.
            jobs: how many processes plan a long list; ``auto``: one for each processor, at most 8.

        Raises:
            ListError: the list cannot be read.
            TemplateError: templates that do not compile.
            FileError: the plan cannot be kept.

        """
        return self.check(progress=progress, jobs=jobs)

    def messages(self, *, rows: str | None = None, limit: int | None = None) -> Iterator[Message]:
        """Yield the messages as they would be sent, in the list's order; rows that would not are left out.

        Rows that were contacted before get the Date they had then. The Date of the others is the current
        time, and before the first run their Message-IDs are temporary, too: both are made when a message is
        sent.

        Raises:
            TemplateError: a template is not valid.
            RowError: a row that was named in *rows* cannot become a message.

        """
        from mailmerge.campaign import preview

        return (shown.message for shown in preview.messages(self.definition, rows=rows, limit=limit))

    def preview(
        self,
        path: Path,
        request: PreviewRequest | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Previewed:
        """Write the page with every message to *path*; see `mailmerge.campaign.preview.write_preview`."""
        from mailmerge.campaign import preview

        return preview.write_preview(self.definition, path, request, progress=progress or _ignore)

    # --- sending -----------------------------------------------------------------------------------------

    def rehearse(
        self,
        request: SendRequest | None = None,
        rehearsal: Rehearsal | None = None,
        *,
        planned: Callable[[Plan], None] | None = None,
        observe: Callable[[Progress], None] | None = None,
        stop: StopFlag | None = None,
    ) -> Report:
        """Do the whole run against the built-in server; ledger and quota are discarded afterwards.

        Raises:
            MailmergeError: the campaign could not be sent either.

        """
        from mailmerge.campaign import rehearsal as module
        from mailmerge.campaign import run

        return module.rehearse(
            self.definition,
            request or run.SendRequest(),
            rehearsal or module.Rehearsal(),
            planned=planned or _ignore,
            observe=observe or _ignore,
            stop=stop or NeverStop(),
        )

    def test(
        self, me: str | None = None, request: SendRequest | None = None, *, stop: StopFlag | None = None
    ) -> TrialReport:
        """Send the messages of the chosen rows (default: the first) to *me* only (default: ``SMTP_TO``).

        Raises:
            MailmergeError: nothing was sent.

        """
        from mailmerge.campaign import run, trial

        return trial.send_tests(self.definition, request or run.SendRequest(), me, stop=stop or NeverStop())

    def send(
        self,
        plan: Plan | None = None,
        request: SendRequest | None = None,
        *,
        confirm: Callable[[Plan], bool] | None = None,
        observe: Callable[[Progress], None] | None = None,
        stop: StopFlag | None = None,
        clock: Clock | None = None,
        on_outcome: Callable[[Settlement], None] | None = None,
    ) -> Report | None:
        """Plan, ask *confirm*, send what is left, write the result files.

        Args:
            plan: the result of `plan`: these messages are sent, even if list, templates or options have
                changed since. A row whose attachment has changed is left out. None: the plan that is valid
                now, made if necessary.
            request: which rows, and how.
            confirm: called with the plan; False ends it before anything is sent. None agrees.
            observe: called at every step.
            stop: an event that ends the run after the messages in flight.
            clock: replaces the machine's clock.
            on_outcome: called with every outcome once it is durable, also if the row is tried again after it.
                An exception that it raises ends the run after the messages in flight, and is raised here when
                everything is recorded and reported.

        Returns:
            The report; None if *confirm* declined, the request was a dry run, or workers continue alone.

        Raises:
            ValueError: the *plan* is another campaign's.
            PlanDamaged: the *plan* is not kept any more.
            MailmergeError: nothing was sent.

        """
        from mailmerge.campaign import run

        kind = None
        if request is not None and request.fleet is not None:
            from mailmerge.campaign import fleet

            kind = fleet.FleetRun
        return run.send(
            self.definition,
            request or run.SendRequest(),
            confirm=confirm or _agree,
            observe=observe or _ignore,
            stop=stop or NeverStop(),
            clock=clock,
            on_outcome=on_outcome,
            given=plan,
            kind=kind,
        )

    @property
    def fleet(self) -> Fleet:
        """The workers of its ledger: `Fleet.status`, `Fleet.pause`, `Fleet.resume`, `Fleet.cancel`.

        Raises:
            CampaignFileError: its ledger is a file, which no worker can reach.

        """
        from mailmerge.campaign import fleet

        return fleet.fleet_of(self.definition)

    # --- after -------------------------------------------------------------------------------------------

    def status(self) -> CampaignStatus:
        """Return how many rows are in each state, from the ledger alone.

        Raises:
            LedgerError: the ledger cannot be read.

        """
        from mailmerge.campaign.continuation import campaign_status

        return campaign_status(self.definition)

    def report(self, wanted: ReportOptions | None = None) -> Report:
        """Write the result files and the report page again from the ledger.

        Args:
            wanted: which files; default: those that every run writes.

        Raises:
            LedgerError: the ledger does not exist, or cannot be read.
            ListError: no list can be copied.
            FileError: the files cannot be written.

        """
        from mailmerge.campaign import results

        return results.report_again(self.definition, wanted or results.ReportOptions())

    def in_doubt(self, rows: str | None = None) -> list[Result]:
        """Return the rows that a person has to decide about.

        Args:
            rows: only these rows of the list as the last run saw it; None: all.

        Raises:
            LedgerError: the ledger cannot be read.
            ListError: *rows* has a number that no row had.

        """
        selection = parse_rows(rows) if rows else None
        with open_standing(self.definition) as standing:
            if standing and selection is not None:
                standing.refuse_unknown(selection.ranges)
            doubtful = standing.in_doubt() if standing else []
        if selection is None:
            return doubtful
        return [result for result in doubtful if selection.names(result.row or 0, result.rows)]

    def bounces(self, request: BounceRequest | None = None) -> BounceSummary:
        """Read the mail that came back, once, and record its reports; see `BounceRequest`."""
        from mailmerge.campaign import bounces

        return bounces.postman(self.definition, request or bounces.BounceRequest()).round(_ignore)

    def continuation(self, rows: str | None = None) -> Continuation:
        """Return the commands that continue the campaign: with what the last run left, or with these *rows*.

        Raises:
            LedgerError: the ledger cannot be read.

        """
        from mailmerge.campaign.continuation import Continuation, continuation

        with open_standing(self.definition) as standing:
            if standing is None:
                return Continuation(self.definition.invocation, 0, counted=self.definition.counted)
            return continuation(self.definition, standing, rows=rows)

    def suggested(self, command: str, *words: str) -> Suggestion:
        """Return a command line for this campaign as it was opened; see `mailmerge.suggest`."""
        return suggested(self.definition.invocation, command, *words)

    def resolve(self, rows: str | None, *, as_accepted: bool) -> int:
        """Settle rows in doubt (None: all): accepted, or to be sent again; return how many.

        Raises:
            LedgerError: the ledger does not exist, or cannot be written.
            ListError: *rows* has a number that no row of the last run's list had.

        """
        with open_run(self.definition, Access.DECIDE) as opened:
            return opened.ledger.resolve(opened.keys_named(rows), as_accepted=as_accepted)

    def requeue(self, rows: str | None = None, *, failed: Path | None = None, accepted: bool = False) -> int:
        """Make rejected and expired rows (or accepted ones) pending again; return how many.

        Args:
            rows: which rows of the list as the last run saw it; None: all.
            failed: a ``failed.csv`` or ``failed.xlsx``: the people in it, wherever they are in the list now.
            accepted: accepted rows instead, which will get the message twice.

        Raises:
            ValueError: both *rows* and *failed* are given.
            LedgerError: the ledger does not exist, or cannot be written.
            InputError: *failed* cannot be read, or does not identify its rows; *rows* has a number that no
                row had; or corrected rows were sent in the place of all that are meant.

        """
        if rows is not None and failed is not None:
            raise ValueError("rows and failed exclude each other")
        with open_run(self.definition, Access.DECIDE) as opened:
            ledger = opened.ledger
            if failed is None:
                keys = opened.keys_named(rows)
            else:
                from mailmerge.campaign.results import keys_in_failed

                keys = keys_in_failed(failed, self.definition.identities)
            count = ledger.requeue(keys, accepted=accepted)
            if not count and keys and not accepted:
                refuse_superseded(ledger.superseded(keys))
            return count

    def purge(self) -> bool:
        """Remove personal data from the ledger, the list's copies, and the files in the out folder.

        This machine forgets which messages the campaign sent, too. Returns False if there was no ledger.

        Raises:
            LedgerError: the ledger is missing, or what is to be changed cannot be written.

        """
        from mailmerge.campaign.purging import purge

        return purge(self.definition)

    def move_ledger(self) -> None:
        """Continue with this ledger, and no longer where else the campaign, or a copy of it, is.

        If this machine knows another ledger as the campaign's, it is copied from there, compared, and sealed
        there.

        Raises:
            LedgerError: it does not exist, is older than it should be, or could not be copied unchanged.

        """
        move_ledger(self.definition)

    def forget_ledger(self) -> str | None:
        """Start over: the next run writes to the whole list.

        Returns:
            The name under which the ledger keeps its old contents; None: it had none.

        Raises:
            CampaignFileError: there is nothing to forget.
            LedgerError: it cannot be read or written.

        """
        return forget_ledger(self.definition)


def _ignore(_told: object) -> None:
    """Ignore what is reported: nobody wants to know."""


def _agree(_plan: Plan) -> bool:
    return True
