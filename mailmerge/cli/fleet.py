"""``mailmerge worker``, ``fleet``, ``pause``, ``resume``, ``cancel``: many machines on one campaign."""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import emit, note, out
from mailmerge.cli.plan_view import clock_time
from mailmerge.cli.progress import SignalHandler
from mailmerge.errors import CampaignFileError
from mailmerge.model import Status
from mailmerge.options import CAMPAIGN_FILE
from mailmerge.suggest import Invocation, suggested
from mailmerge.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mailmerge.campaign.fleet import Fleet, FleetCampaign, FleetStatus
    from mailmerge.fleet.jobs import PresentWorker
    from mailmerge.fleet.worker import WorkerEvent

_WATCH_EVERY = 2.0


@click.command("worker")
@options_of("worker")
def worker(
    *,
    ledger: str | None,
    accounts: str | None,
    until_done: bool,
    ready: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """Send what `send --fleet` has handed to the workers of a ledger, until it is stopped.

    A worker needs the ledger's address and the accounts with their secrets, but no campaign and no list, and
    never asks a question. On Ctrl-C or SIGTERM it finishes the messages in flight and returns all other rows.

    \b
    Example:
      mailmerge worker --ledger office --accounts work,relay2
    """  # noqa: D301  click's own mark
    from mailmerge.campaign.fleet import Worker, account_names

    show = _EventWriter(as_json=as_json, verbose=verbose)
    own = Worker(ledger, account_names(accounts or ""), until_done=until_done, tell=show)
    for line in own.check():
        show.say("ready", line)
    if ready:
        return 0
    with _Stop(code=0) as stop:
        refused = own.run(stop.flag)
    if stop.code:
        return stop.code
    return 6 if refused else 0


class _EventWriter:
    """Writes one line per event to stderr: time and text, or a JSON object."""

    def __init__(self, *, as_json: bool, verbose: bool) -> None:
        self._as_json = as_json
        self._verbose = verbose
        self._lock = threading.Lock()

    def __call__(self, event: WorkerEvent) -> None:
        if event.detail and not self._verbose:
            return
        more = {
            name: value
            for name, value in (
                ("account", event.account),
                ("campaign", event.campaign),
                ("slot", event.slot),
                ("counts", event.counts),
            )
            if value
        }
        self.say(event.kind, event.text, **more)

    def say(self, kind: str, text: str, **more: Any) -> None:
        """Write one line."""
        now = datetime.now(UTC).astimezone()
        with self._lock:
            if self._as_json:
                emit("worker", event=kind, at=now.isoformat(timespec="milliseconds"), text=text, **more)
            else:
                where = " ".join(str(more[name]) for name in ("account", "campaign") if name in more)
                note(f"{now:%Y-%m-%d %H:%M:%S} {f'{where}: ' if where else ''}{text}")


class _Stop(SignalHandler):
    """The first signal asks the worker to finish, the second one ends it immediately."""

    def _handle(self, number: int, _frame: object) -> None:
        self.code = 128 + number
        if self.flag.is_set():
            # Threads that wait for a server cannot be interrupted: the ledger has what they were doing.
            sys.stderr.write("stopped immediately; messages in flight are in doubt when the lease ends\n")
            sys.stderr.flush()
            os._exit(self.code)
        self.flag.set()
        sys.stderr.write("finishing the messages in flight; a second signal stops immediately\n")


@click.command("fleet")
@campaign_argument
@options_of("fleet")
def fleet(*, again: bool, as_json: bool, **options: Any) -> int:
    """Show what the workers of a ledger are doing: sessions, waiting rows, rows in doubt.

    CAMPAIGN is a campaign's folder, or its name in the ledger; without one, and outside of a campaign's
    folder, all are shown.

    \b
    Example:
      mailmerge fleet spring --ledger office --watch
    """  # noqa: D301  click's own mark
    found = _fleet(options)
    while True:
        status = found.status()
        if as_json:
            emit("fleet", **_plain(status))
        else:
            for line in _lines(status):
                out(line, Status.DEFERRED, Status.IN_DOUBT)
        if not again:
            return 0
        time.sleep(_WATCH_EVERY)
        if not as_json:
            out("")


def _plain(status: FleetStatus) -> dict[str, Any]:
    from msgspec import to_builtins

    plain: dict[str, Any] = to_builtins(status)
    return plain


def _lines(status: FleetStatus) -> Iterator[str]:
    for campaign in status.campaigns:
        by = f" by {campaign.by}" if campaign.by and campaign.state != "finished" else ""
        note = f" ({campaign.note})" if campaign.note else ""
        yield f"{campaign.name}: {campaign.state} since {clock_time(campaign.since)}{by}{note}"
        rows = (("waiting", campaign.waiting), ("claimed", campaign.claimed), ("deferred", campaign.deferred))
        yield "  " + "   ".join(f"{name} {count:,}" for name, count in rows)
        if campaign.next_at:
            yield f"  the first deferred row is due at {clock_time(campaign.next_at)}"
        if campaign.state == "running" and not _served(campaign, status.workers):
            yield f"  no worker of version {campaign.program}, which planned it, is running"
        if campaign.unsettled:
            yield f"  {plural(campaign.unsettled, 'row')} in doubt or being handed over"
    if not status.campaigns:
        yield f"No campaign was handed to the workers of {status.ledger}."
    for worker in status.workers:
        yield from _worker_lines(worker, status)
    if not status.workers:
        yield "No worker is running: `worker` with this ledger and its accounts starts one, on any machine."
    for account, count in status.jobs.items():
        yield f"account {account}: {plural(count, 'slot')} waiting for a worker"


def _worker_lines(worker: PresentWorker, status: FleetStatus) -> Iterator[str]:
    slots = [slot for slot in status.slots if (slot.worker, slot.account) == (worker.name, worker.account)]
    busy = f"{len(slots)} of {plural(worker.slots, 'session')} busy"
    state = f"not used: {worker.refused}" if worker.refused else busy
    yield f"worker {worker.name}  account {worker.account}  {state}"
    others = [one for one in status.campaigns if one.state == "running" and one.program != worker.version]
    if others and not worker.refused:
        names = ", ".join(f"{one.name} (planned by {one.program})" for one in others)
        yield f"  does not send {names}: this worker is version {worker.version}"
    for slot in slots:
        silent = "  SILENT" if slot.silent else ""
        what = (
            f"{slot.campaign}, {plural(slot.claimed, 'row')} claimed" if slot.campaign else "no campaign yet"
        )
        yield f"  slot {slot.number}  since {clock_time(slot.since)}  {what}{silent}"


def _served(campaign: FleetCampaign, workers: Sequence[PresentWorker]) -> bool:
    """Tell whether any worker is of the version that can send a campaign, or none is there at all."""
    return not workers or any(worker.version == campaign.program for worker in workers if not worker.refused)


def _fleet(options: dict[str, Any]) -> Fleet:
    """Return the fleet that is meant: by a campaign's folder, by its name in the ledger, or all."""
    from mailmerge.campaign.fleet import Fleet

    path: Path | None = options["campaign"]
    if path is None and not Path(CAMPAIGN_FILE).exists() and not options.get("data_source"):
        return Fleet(options["ledger"], options["name"])
    if path is not None and not path.exists() and path.name == str(path) and path.suffix != ".toml":
        return Fleet(options["ledger"], str(path))
    campaign = load_campaign(options, ledger_only=True)
    return campaign.fleet


@click.command("pause")
@campaign_argument
@options_of("pause")
def pause(**options: Any) -> int:
    """Stop the workers from sending a campaign, within a second; messages in flight are finished.

    The other rows stay loaded, and no other campaign is touched.

    \b
    Example:
      mailmerge pause spring --ledger office
    """  # noqa: D301  click's own mark
    return _change(options, "pause")


_NO_FLEET: Final = "C580"


@click.command("resume")
@campaign_argument
@options_of("resume")
def resume(**options: Any) -> int:
    """Let the workers continue with a campaign that was paused.

    \b
    Example:
      mailmerge resume spring --ledger office
    """  # noqa: D301  click's own mark
    again = suggested(Invocation.parsed("send", click.get_current_context().params), "send")
    try:
        return _change(options, "resume")
    except CampaignFileError as error:
        if error.code != _NO_FLEET:
            raise
        hint = f"without a fleet, a run that was stopped continues by: {again}"
        raise CampaignFileError(error.message, code=_NO_FLEET, hint=hint) from None


@click.command("cancel")
@campaign_argument
@options_of("cancel")
def cancel(**options: Any) -> int:
    """Withdraw a campaign from the workers: unsent rows stay pending until `send` is run again.

    \b
    Example:
      mailmerge cancel spring --ledger office
    """  # noqa: D301  click's own mark
    return _change(options, "cancel")


def _change(options: dict[str, Any], change: str) -> int:
    found = _fleet(options)
    if found.campaign is None:
        raise click.UsageError("which campaign? Name its folder, or its name in the ledger")
    changed: bool = getattr(found, change)()
    if changed:
        out(f"{found.campaign}: {_DONE[change]}")
        return 0
    note(f"{found.campaign}: nothing was changed: the workers {_NOT[change]}")
    return 2


_DONE = {
    "pause": "paused; messages in flight are finished. `resume` continues.",
    "resume": "the workers continue.",
    "cancel": "taken from the workers; rows that were not sent are pending, `send` continues with them.",
}
_NOT = {
    "pause": "are not sending it",
    "resume": "have no paused campaign of this name; `send --fleet` hands it to them",
    "cancel": "do not have it",
}
