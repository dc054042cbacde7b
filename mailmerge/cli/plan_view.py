"""The plan as people read it before they confirm it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mailmerge.check.diagnostics import found
from mailmerge.cli.output import diagnostic_values, emit, note, show_problems
from mailmerge.masking import mask_known
from mailmerge.model import Status
from mailmerge.text import attachments, duration, local_time, padded, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.campaign.plan import Plan

_LEFT_OUT = (
    (Status.DUPLICATE, "repeat another row"),
    (Status.INVALID, "invalid"),
    (Status.SUPPRESSED, "suppressed"),
)


def show_plan(plan: Plan, *, quiet: bool = False, resolve: str = "") -> None:
    """Show problems, then who sends what to whom and how fast; *resolve* is the command for rows in doubt."""
    show_problems(plan.problems, most=5)
    if not quiet:
        for line in lines(plan, resolve):
            note(line)


def lines(plan: Plan, resolve: str = "") -> Iterator[str]:
    """Yield the lines of the plan."""
    yield f"  From      {plan.sender}  via {plan.via}"
    for notice in plan.notices:
        yield f"            {notice}"
    yield f"  List      {plan.source}: {plan.understanding}{not_rows(plan)}"
    yield f"  {padded('Drafts' if plan.drafts else 'Send', 9)} {_send(plan)}"
    if plan.files:
        yield f"  Files     {attachments(plan.files)}"
    if plan.to_send:
        yield f"            first: {plan.first}, last: {plan.last}"
    yield from opt_outs(plan)
    if plan.before:
        before = plural(plan.before, plan.counted)
        yield f"  Before    {before} accepted by earlier runs; none will be sent again"
    if plan.in_doubt:
        rows = ", ".join(map(str, plan.in_doubt))
        decide = f": {resolve}" if resolve else ""
        yield f"  In doubt  row {rows}: not sent again unless you decide so{decide}"
    if plan.deferred_until:
        deferred = plural(plan.counts[Status.DEFERRED], plan.counted)
        yield f"  Deferred  {deferred}; the first is due at {clock_time(plan.deferred_until)}"
    if not plan.drafts:
        yield f"  Pace      {_pace(plan)}"
        yield from _session(plan)
    yield f"  Checked   {_checked(plan)}"
    for warning in plan.warnings:
        yield f"  Note      {warning}"


def opt_outs(plan: Plan) -> Iterator[str]:
    """Yield how many people each list of opt-outs has, and how many of them are in this list."""
    label = "Opt-outs"
    for source in plan.opt_outs:
        # Files in different folders may have the same name: then it alone would not tell them apart.
        same = sum(other.path.name == source.path.name for other in plan.opt_outs) > 1
        named = source.path if same else source.path.name
        entries = plural(source.entries, "address", "addresses")
        rest = f", {source.listed:,} in this list" if source.entries else " (empty, or headings only)"
        yield f"  {padded(label, 9)} {entries} in {named}{rest}"
        label = ""


_SESSIONS = {
    "off": ("one message after another", 1),
    "auto": ("the next message starts before the previous one is answered, if the pace requires it", 1),
    "overlap": ("the next message starts before the previous one is answered, if the server allows it", 1),
    "window": ("up to 64 messages in flight, if the server allows it", 64),
}


def _session(plan: Plan) -> Iterator[str]:
    words, most = _SESSIONS[plan.pipeline]
    several = f"{plan.sessions} sessions, each " if plan.sessions > 1 else ""
    doubt = plural(min(most * plan.sessions, max(plan.to_send, 1)), plan.counted)
    yield f"  Session   {several}{words}"
    yield f"            a crash can leave at most {doubt} in doubt"


def _checked(plan: Plan) -> str:
    return f"{planned(plan)}, {found(plan.problems)}"


def planned(plan: Plan) -> str:
    """Return when the plan was made, and what has changed since the previous one."""
    if plan.planned is not None:
        return f"planned {clock_time(plan.planned)}, nothing has changed since"
    rows = "" if plan.anew is None else f", {plural(plan.anew, 'row')} again and the others as before"
    changes = f" ({'; '.join(plan.changes)})" if plan.changes else ""
    return f"planned now{rows}{changes}"


def not_rows(plan: Plan) -> str:
    """Return what was left out of the list."""
    parts = []
    if plan.understanding.blank:
        parts.append(f"{plural(plan.understanding.blank, 'blank row')} skipped")
    if plan.understanding.hidden:
        parts.append(f"{plural(plan.understanding.hidden, 'hidden row')} left out")
    if plan.understanding.trimmed:
        parts.append(f"spaces trimmed from {plural(plan.understanding.trimmed, 'cell')}")
    return f"; {', '.join(parts)}" if parts else ""


def _send(plan: Plan) -> str:
    found = left_out(plan)
    return f"{plan.to_send:,} of {listed(plan)}{f'  ({found})' if found else ''}"


def listed(plan: Plan) -> str:
    """Return how many rows the list has, and how many messages they make if several share one."""
    rows = plural(plan.rows, "row")
    return f"{plural(plan.rows - plan.sharing, 'message')} ({rows})" if plan.sharing else rows


def left_out(plan: Plan) -> str:
    """Return how many rows are not sent, and why."""
    counts = [(plan.statuses[status], words) for status, words in _LEFT_OUT]
    counts.append((plan.unaddressed, "without an address"))
    counts.append((plan.statuses[Status.SKIPPED] - plan.unaddressed, "not selected"))
    return ", ".join(f"{count:,} {words}" for count, words in counts if count > 0)


def _pace(plan: Plan) -> str:
    opens, hours = plan.schedule.open_from(_soon(0)), plan.schedule.told()
    if not plan.rates:
        pace = "as fast as the server accepts them"
    else:
        pace = " and ".join(map(str, plan.rates))
        if plan.seconds >= 60:
            pace += f" -> about {duration(plan.seconds)}"
            if not hours:  # else it depends on how much of each day they leave
                pace += f", done {clock_time((opens or _soon(0)) + timedelta(seconds=plan.seconds))}"
    if opens:
        pace += f"; begins {clock_time(opens)}"
    elif plan.schedule.start:
        pace += f"; begins now: {plan.schedule.start.astimezone():%Y-%m-%d %H:%M} has passed"
    if hours:
        pace += f"; {hours}"
    if plan.per_domain:
        pace += f"; to each domain {' and '.join(map(str, plan.per_domain))}"
    if plan.quota:
        left = plan.quota.count - plan.quota_used - plan.to_send
        more = (
            f"{left:,} left afterwards"
            if left >= 0
            else f"{-left:,} more than it allows: this takes several days"
        )
        pace += f";  the account's {plan.quota}: {more}"
    return pace


def _soon(seconds: float) -> datetime:
    return datetime.now().astimezone() + timedelta(seconds=seconds)


def show_facts(plan: Plan) -> None:
    """Show where the plan is kept, and what it was made from: it is valid until any of that changes."""
    if plan.kept is not None:
        note(f"  kept in {plan.kept}")
    for fact in plan.facts:
        note(f"  {fact}")


def show_understanding(plan: Plan) -> None:
    """Show how the list was understood: what wrote it, where it begins, what is in its columns."""
    for line in plan.understanding.lines():
        note(f"  {mask_known(line)}")


def clock_time(moment: datetime) -> str:
    """Return a moment in local time, with the date unless it is today."""
    return local_time(moment, datetime.now(UTC))


def show_plan_json(plan: Plan) -> None:
    """Print the plan as JSON lines."""
    for group in plan.problems:
        emit("problem", **diagnostic_values(group))
    emit(
        "plan",
        campaign=plan.campaign,
        list=plan.source,
        dialect=str(plan.understanding),
        rows=plan.rows,
        sharing=plan.sharing,
        to_send=plan.to_send,
        statuses=plan.statuses.by_status,
        first=plan.first,
        last=plan.last,
        notices=list(plan.notices),
        files={str(count): messages for count, messages in plan.files.items()},
        sender=plan.sender,
        via=plan.via,
        rates=[str(rate) for rate in plan.rates],
        hours=plan.schedule.told(),
        opt_outs=opt_outs_values(plan),
        seconds=round(plan.seconds),
    )


def opt_outs_values(plan: Plan) -> list[dict[str, object]]:
    """Return the lists of people who must not be written to as plain values for JSON."""
    return [
        {"path": str(source.path), "entries": source.entries, "listed": source.listed}
        for source in plan.opt_outs
    ]
