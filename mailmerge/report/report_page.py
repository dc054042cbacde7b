"""The report page: one HTML file that needs no script to be read, and loads nothing.

Its policy (CSP) allows its own style and its one small script, by their hashes, and nothing else. Everything
from the list or from a server is escaped, and control characters are made visible.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from markupsafe import Markup
from msgspec import Struct
from msgspec.structs import replace

from mailmerge.files import replace_text
from mailmerge.model import Counts, Result, Status
from mailmerge.report import charts
from mailmerge.report.summary import LEFT_OUT, WORDS, not_sent
from mailmerge.text import duration, local_time, printable, rows_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from jinja2 import Environment

    from mailmerge.history import Answer, Domain, Runs, Timeline, Times, Waits
    from mailmerge.model import Delivery, Rate, Version
    from mailmerge.report.summary import Redactor, RowSample

IN_DOUBT_NAMED = 12

_TILES: tuple[tuple[str, str, tuple[Status, ...]], ...] = (
    ("accepted", "accepted", (Status.ACCEPTED,)),
    ("rejected", "rejected", (Status.REJECTED, Status.EXPIRED, Status.BOUNCED)),
    ("deferred", "to be sent", (Status.DEFERRED, Status.PENDING, Status.DRAFTED)),
    ("in_doubt", "in doubt", (Status.IN_DOUBT, Status.HANDING_OVER)),
    ("invalid", "invalid", (Status.INVALID,)),
    ("left_out", "left out", (Status.SUPPRESSED, Status.DUPLICATE, Status.SKIPPED)),
)
"""The six tiles with the states that each of them counts: every state is in exactly one."""

_TILE_OF = {status: tile for tile, _, statuses in _TILES for status in statuses}
_DETAILS = {
    Status.ACCEPTED: "",
    Status.REJECTED: "{} rejected",
    Status.EXPIRED: "{} expired",
    Status.BOUNCED: "{} bounced",
    Status.DEFERRED: "{} deferred",
    Status.PENDING: "{} pending",
    Status.DRAFTED: "{} drafted",
    Status.IN_DOUBT: "",
    Status.HANDING_OVER: "{} handing over",
    Status.INVALID: "cannot become a message",
    Status.SUPPRESSED: "{} suppressed",
    Status.DUPLICATE: "{} duplicate",
    Status.SKIPPED: "{} skipped",
}
_VERDICTS = {
    "finished": "Finished.",
    "interrupted": "Interrupted. Run the same command to resume.",
    "quota": "Stopped at the account's limit.",
    "breaker": "Stopped: the server rejected too many messages.",
    "network": "Stopped: there was no connection.",
    "refused": "Stopped: the server refused the account or the sender.",
    "account_pause": "Stopped: the server asked for a pause.",
    "ledger": "Stopped: the ledger could not be written.",
    "paused": "Stopped: the workers were told to stop.",
    "failed": "Stopped by an error.",
}
_UNSAID = {
    Status.IN_DOUBT: "the reply was lost after the hand-over",
    Status.HANDING_OVER: "no reply yet",
    Status.ACCEPTED: "marked as accepted by a person",
}
_QUEUE_ID = re.compile(r"\bqueued as ([\w.-]{4,40})|\b(?:id|queue)=([\w.-]{4,40})", re.IGNORECASE)


class Figures(Protocol):
    """The aggregated history of a campaign, wherever it is stored."""

    def runs(self) -> Runs:
        """Return the first start, the last end and the number of runs."""

    def timeline(self) -> Timeline:
        """Return the outcomes over time."""

    def domains(self) -> tuple[tuple[Domain, ...], int]:
        """Return the domains with the most contacted rows, and how many domains there are."""

    def answers(self) -> tuple[Answer, ...]:
        """Return the last replies to contacted rows, the most frequent first."""

    def times(self) -> Times:
        """Return how long the server took to answer."""

    def waits(self) -> Waits:
        """Return how the time of the runs was spent."""


class PageFacts(Struct, frozen=True):
    """What the page shows in addition to the ledger's figures."""

    campaign: str
    account: str = ""
    """``smtp.example.org as me@example.org``."""
    server: str = ""
    list_name: str = ""
    list_digest: str = ""
    versions: tuple[Version, ...] = ()
    """The content versions with which rows were accepted."""
    rates: tuple[Rate, ...] = ()
    resolve: tuple[str, ...] = ()
    """The commands that show rows in doubt, mark them as accepted, and send them again; empty: none apply."""
    again: str = ""
    """The command that resumes."""
    again_rows: int | None = None
    """How many rows it covers; None: all that are left."""
    counted: str = "row"
    """What the page counts: a ``row``, or a ``message`` for one or more rows."""
    next_at: datetime | None = None
    rehearsal: bool = False
    redacted: bool = False
    mailbox_read: datetime | None = None
    """When returned mail was last read; None: never."""
    reports: Mapping[str, int] = {}
    """Rows by what that mail reported about them."""
    stopped: str = ""
    """What ended the run, if it did not finish."""
    files: tuple[str, ...] = ()
    """Names of the files next to the page."""
    program_version: str = ""


class _Tile(Struct, frozen=True):
    id: str
    name: str
    count: int
    detail: str


def write_page(
    path: Path,
    facts: PageFacts,
    counts: Counts,
    picked: RowSample,
    figures: Figures,
    *,
    gone: int = 0,
    people: Mapping[int, str] = MappingProxyType({}),
    redactor: Redactor | None = None,
) -> None:
    """Write the page to *path*, readable by its owner only, completely or not at all.

    Args:
        path: the file.
        facts: what the ledger does not contain.
        counts: how many rows are in each state.
        picked: the rows to show.
        figures: the ledger's history.
        gone: how many of the rows were removed from the list.
        people: the names of people, by row; empty for a redacted page.
        redactor: hides addresses in the server's words; rows must be redacted already.

    Raises:
        FileError: it cannot be written.
        LedgerError: the ledger cannot be read.

    """
    values = {
        "counted": facts.counted,
        **_head(facts, counts, figures.runs(), gone),
        **_figures(facts, figures, redactor),
        **_table(picked, counts, people),
    }
    with replace_text(path) as stream:
        stream.writelines(_environment().get_template("page.html").generate(values))


def _head(facts: PageFacts, counts: Counts, runs: Runs, gone: int) -> dict[str, Any]:
    left = counts[Status.PENDING] + counts[Status.DEFERRED]
    verdict = _VERDICTS.get(runs.reason, "Stopped.") if runs.ended else "Still running, or killed."
    if not runs.count:
        verdict = "Nothing has been sent yet."
    elif runs.reason == "finished" and left:
        verdict = f"This run finished; some {facts.counted}s are left."
    seconds = (runs.ended - runs.started).total_seconds() if runs.ended and runs.started else 0.0
    return {
        "facts": facts,
        "runs": runs,
        "verdict": f"Stopped: {facts.stopped}." if facts.stopped else verdict,
        "took": duration(seconds) if seconds >= 1 else "",
        "server": facts.server or "the server",
        "accepted": counts[Status.ACCEPTED],
        "total": counts.total,
        "gone": gone,
        "left": left,
        "doubtful": counts[Status.IN_DOUBT] + counts[Status.HANDING_OVER],
        "tiles": [_tile(counts, *tile) for tile in _TILES],
        "now": datetime.now(UTC),
    }


def _tile(counts: Counts, name: str, words: str, statuses: tuple[Status, ...]) -> _Tile:
    details = [
        _DETAILS[status].format(f"{counts[status]:,}")
        for status in statuses
        if counts[status] and _DETAILS[status]
    ]
    if len(details) == 1 and counts[statuses[0]] and name == "rejected":
        details = []  # it would only repeat the tile's name
    if name == "rejected" and counts[Status.BOUNCED]:
        words = "rejected or bounced"
    return _Tile(name, words, sum(counts[status] for status in statuses), ", ".join(details))


def _figures(facts: PageFacts, figures: Figures, redactor: Redactor | None) -> dict[str, Any]:
    timeline = figures.timeline()
    outcomes = charts.outcomes(timeline)
    found, domain_count = figures.domains()
    domains = charts.domains(found)
    answers = figures.answers()
    if redactor:
        answers = tuple(replace(answer, words=redactor.words(answer.words)) for answer in answers)
    families = charts.families(answers)
    times = figures.times()
    speed = charts.throughput(timeline, facts.rates)
    totals = _totals(part for column in outcomes.columns for part in column.parts)
    domain_totals = _totals(part for bar in domains for part in bar.parts)
    pauses = sum(1 for column in outcomes.columns if column.pause)
    reconnects = sum(column.connections for column in outcomes.columns)
    return {
        "height": charts.HEIGHT,
        "outcomes": outcomes,
        "outcome_totals": totals,
        "outcomes_desc": _described(totals, f"in {len(outcomes.bars)} bars of {outcomes.unit}"),
        "marks": _marks(pauses, reconnects),
        "speed": speed,
        "speed_desc": _speed_described(speed),
        "times": times,
        "percentiles": charts.percentiles(times),
        "waiting": charts.waiting(figures.waits(), paced=bool(facts.rates)),
        "domains": domains,
        "domain_count": domain_count,
        "domain_totals": domain_totals,
        "domains_desc": _described(domain_totals, f"in {len(domains)} domains"),
        "purged": bool(families) and not domains,
        "families": families,
        "family_parts": charts.shares({family.series: family.total for family in families}),
    }


def _totals(parts: Iterator[charts.Segment]) -> dict[str, int]:
    totals = dict.fromkeys(charts.SERIES, 0)
    for part in parts:
        totals[part.series] += part.count
    return {name: count for name, count in totals.items() if count}


def _described(totals: Mapping[str, int], where: str) -> str:
    counts = ", ".join(f"{count:,} {charts.SERIES[name]}" for name, count in totals.items())
    return f"{counts or 'nothing'}, {where}."


def _speed_described(speed: charts.TimeSeries) -> str:
    fastest = max((column.total for column in speed.bars), default=0.0)
    return f"At most {fastest:,.0f} messages a minute. {speed.line_label.capitalize()}"


def _marks(pauses: int, reconnects: int) -> str:
    parts = []
    if reconnects:
        parts.append("▲ marks a new connection")
    if pauses:
        parts.append("hatched gaps are long pauses, not drawn to scale")
    return f"{'; '.join(parts)}.".capitalize() if parts else ""


def _table(picked: RowSample, counts: Counts, people: Mapping[int, str]) -> dict[str, Any]:
    results = picked.rows
    doubtful = [result for result in results if _TILE_OF[result.status] == "in_doubt"]
    chips: dict[str, int] = {}
    for result in results:
        tile = _TILE_OF[result.status]
        chips[tile] = chips.get(tile, 0) + 1
    return {
        "whole": picked.whole,
        "rows": _TableRows(results, people),
        "people": defaultdict(str, people),
        "linked": frozenset(result.row for result in results if result.row),
        "in_doubt": doubtful[:IN_DOUBT_NAMED],
        "chips": [(tile, name, chips[tile]) for tile, name, _ in _TILES if tile in chips],
        "words": WORDS,
        "unsaid": _UNSAID,
        "names": charts.SERIES,
        "counts": counts,
    }


class _TableRows:
    """The lines of the table, made one by one while the page is written."""

    def __init__(self, results: Any, people: Mapping[int, str]) -> None:
        self._results = results
        self._people = people

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for result in self._results:
            yield {**_row(result), "name": self._people.get(result.row, "")}


def _row(result: Result) -> dict[str, Any]:
    delivery = result.delivery
    values: dict[str, Any] = {
        "number": result.row,
        "address": result.address,
        "tile": _TILE_OF[result.status],
        "status": WORDS[result.status],
        "code": "",
        "said": result.detail,
        "tries": 0,
        "message_id": "",
        "queue": "",
        "at": 0,
    }
    left_out = result.status in LEFT_OUT
    if left_out:
        values["said"] = not_sent(result)
    if delivery is None:
        return _with_rows(values, result)
    queue = _QUEUE_ID.search(delivery.reply) if result.status is Status.ACCEPTED else None
    values |= {"tries": delivery.attempts, "message_id": delivery.message_id}
    if not left_out:  # else it is from an earlier attempt, unrelated to the row's state
        values |= {
            "code": f"{delivery.code or ''} {delivery.enhanced}".strip(),
            "said": _said(result, delivery),
            "queue": (queue[1] or queue[2]) if queue else "",
        }
    if delivery.updated:
        local = delivery.updated.astimezone()
        values |= {
            "at": round(delivery.updated.timestamp(), 3),
            "iso": local.isoformat(timespec="seconds"),
            "time": f"{local:%d %b %H:%M:%S}",
        }
    return _with_rows(values, result)


def _with_rows(values: dict[str, Any], result: Result) -> dict[str, Any]:
    """Return text that also names the rows of a message for several."""
    if result.rows:
        values["said"] = "; ".join(filter(None, [values["said"], rows_named(result.rows)]))
    return values


def _said(result: Result, delivery: Delivery) -> str:
    """Return the server's words, and other facts about a contacted row."""
    words = delivery.reply or _UNSAID.get(result.status) or delivery.reason
    if result.status is Status.DEFERRED and delivery.next_at:
        return f"until {local_time(delivery.next_at, datetime.now(UTC))}: {words}"
    edited = result.detail if result.status is Status.ACCEPTED and result.row is not None else ""
    return "; ".join(filter(None, [words, edited])) if edited != "where" else words


# --- templates --------------------------------------------------------------------------------------------


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("mailmerge.report") / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        "n": lambda number: f"{number:,}",
        "tenth": lambda number: f"{number:,.1f}",
        "percent": lambda share: (
            "100 %" if share == 1 else f"{share * 100:.1f} %" if share >= 0.001 else "< 0.1 %"
        ),
        "when": _when,
        "span": duration,
        "cut": lambda text, most: text if len(text) <= most else text[: most - 1] + "…",
    }
    style, script = ((folder / name).read_text("utf-8") for name in ("page.css", "page.js"))
    drawing = environment.get_template("charts.html").make_module(
        {"names": charts.SERIES, "height": charts.HEIGHT}
    )
    environment.globals |= {
        "style": Markup(style),  # noqa: S704  our own file
        "script": Markup(script),  # noqa: S704
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "charts": drawing,
        "signs": {tile: drawing.sign(tile) for tile, *_ in _TILES},  # type: ignore[attr-defined]
    }
    return environment


def _shown(value: object) -> object:
    """Make invisible characters visible in everything that a template prints and did not write itself."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _when(moment: datetime) -> Markup:
    local = moment.astimezone()
    zone = f"{local:%z}"
    shown = f"{local:%a} {local.day} {local:%b %Y, %H:%M:%S}"
    return Markup('<time datetime="{}">{} <span class="zone">UTC{}</span></time>').format(
        local.isoformat(timespec="seconds"), shown, f"{zone[:3]}:{zone[3:5]}"
    )
