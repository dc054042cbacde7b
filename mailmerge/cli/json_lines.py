"""What ``--json`` prints: the shape of each line, from which its JSON Schema and docs/json.md are made.

Nothing is written or read through these structs: `mailmerge.cli.output.emit` writes plain values, and the
tests validate every line that any command writes against them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Moment = Annotated[
    str, Meta(description="Date and time in ISO 8601 format.", extra_json_schema={"format": "date-time"})
]
State = Literal[
    "pending", "handing_over", "accepted", "rejected", "deferred", "expired", "in_doubt", "bounced",
    "drafted", "invalid", "duplicate", "suppressed", "skipped",
]  # fmt: skip
States = dict[State, int]


class Line(Struct, kw_only=True, tag_field="type", tag=lambda name: name.removesuffix("Line").lower()):
    """One line: an object with a version and a type."""

    v: Literal[1]


class ProblemLine(Line):
    """A problem of a campaign, in one or many rows. From check, send, rehearse, drafts."""

    code: str
    severity: Literal["error", "warning", "info"]
    message: str
    hint: str | None
    path: str | None
    line: int | None
    column: int | str | None
    cell: str | None
    count: int
    rows: list[int]
    stops: bool


class OptOutList(Struct):
    """A list of people who are not written to."""

    path: str
    entries: int
    listed: int


class CheckLine(Line):
    """How many rows of a list can be sent. The last line of check."""

    rows: int
    sharing: int
    statuses: States
    ready: int
    blank_rows: int
    notices: list[str]
    files: dict[str, int]
    opt_outs: list[OptOutList]


class PlanLine(Line):
    """What is about to be sent. From send, rehearse, drafts, before the first message."""

    campaign: str
    list: str
    dialect: str
    rows: int
    sharing: int
    to_send: int
    statuses: States
    first: str | None
    last: str | None
    notices: Annotated[Any, Meta(extra_json_schema={"type": "array", "items": {"type": "string"}})]
    files: dict[str, int]
    sender: str
    via: str
    rates: Annotated[Any, Meta(extra_json_schema={"type": "array", "items": {"type": "string"}})]
    hours: str
    opt_outs: Annotated[Any, Meta(extra_json_schema={"type": "array", "items": {"type": "object"}})]
    seconds: int


class OutcomeLine(Line):
    """What happened to one row. From send, rehearse, drafts."""

    row: int | None
    address: str
    status: State
    code: int | None
    reply: str


class ProgressLine(Line):
    """How far the workers of a fleet have got. From send --fleet."""

    statuses: States


class ReportLine(Line):
    """The result of a run. The last line of send, rehearse, drafts, report."""

    campaign: str
    statuses: States
    reason: str
    next_at: Moment | None
    folder: str | None
    page: str | None
    files: list[str]
    exit_code: int


class TestLine(Line):
    """What happened to one test message. From test."""

    row: int
    status: State
    reply: str
    to: str
    rows: list[int] = []


class StatusLine(Line):
    """The status of a campaign. From status."""

    campaign: str
    statuses: States
    next_at: Moment | None
    last_run: Moment | None
    running: bool
    mailbox_read: Moment | None
    reports: dict[str, int]
    halted: str | None
    fleet: str | None
    sessions: int
    queued: int


class BounceLine(Line):
    """One message of the mailbox. From bounces."""

    name: str
    report: Literal["report", "prose", "complaint", "auto_reply", "challenge", "other"]
    evidence: str | None
    rows: list[int]
    keys: list[str]
    bounced: bool
    suppressed: list[str]
    recipients: list[dict[str, Any]]
    subject: str


class BouncesLine(Line):
    """The result of reading the mailbox. The last line of bounces."""

    campaign: str
    looked_at: int
    known: int
    foreign: int
    other: int
    waiting: int
    sorts: dict[str, int]
    bounced: int
    suppressed: int
    halted: str | None
    exit_code: int


class ProviderLine(Line):
    """A mail provider. From providers."""

    name: str
    title: str
    servers: list[str]
    regions: dict[str, list[str]]
    auth: Any
    user: str | None
    secret: str
    normal_password: bool | None
    signs_unsubscribe: bool | None
    group: str
    domains: list[str]
    rates: list[str]
    quota: str | None
    max_size: int | None
    max_recipients: int | None
    per_connection: int | None
    sessions: int | None
    checked: str
    source: str
    page: str
    steps: list[str]
    notes: list[str]
    marks: dict[str, str]


class SuppressedLine(Line):
    """Somebody who is not written to. From suppress list."""

    entry: str
    added: str | None
    source: str | None


class WorkerLine(Line):
    """An event of a worker. From worker."""

    event: str
    at: Moment
    text: str
    account: str = ""
    campaign: str = ""
    slot: int = 0
    counts: dict[str, int] = {}


class FleetLine(Line):
    """What the workers of a ledger are doing. From fleet."""

    ledger: str
    campaigns: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    slots: list[dict[str, Any]]
    jobs: dict[str, int]


LINES = (
    ProblemLine, CheckLine, PlanLine, OutcomeLine, ProgressLine, ReportLine, TestLine, StatusLine,
    BounceLine, BouncesLine, ProviderLine, SuppressedLine, WorkerLine, FleetLine,
)  # fmt: skip


_HEAD = """\
# What --json prints

One JSON object per line on stdout. `v` is the version of this format, `type` the kind of line. States and
exit codes are in [Results](results.md#exit-codes). `mailmerge schema output` prints this page as JSON Schema.

Version 1 is kept: a later version of mailmerge may add fields, types of lines, and values of strings such as
`reason` and `event`, so ignore what you do not know. If a field goes or changes its meaning, `v` becomes 2.

This page is made by `scripts/write-json-page` from `mailmerge/cli/json_lines.py`.
"""


def output_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a line of ``--json``."""
    (_, *_), parts = msgspec.json.schema_components(LINES, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line that mailmerge prints with --json, version 1",
        "oneOf": [{"$ref": f"#/$defs/{line.__name__}"} for line in LINES],
        "$defs": parts,
    }


def as_markdown() -> str:
    """Return docs/json.md."""
    parts = output_schema()["$defs"]
    lines = _HEAD.splitlines()
    for line in LINES:
        part = parts[line.__name__]
        lines += ["", f"## `{part['properties']['type']['enum'][0]}`", "", part["description"], ""]
        lines += ["| field | type |", "|---|---|"]
        lines += [
            f"| `{name}` | {_type(shape)} |"
            for name, shape in part["properties"].items()
            if name not in {"v", "type"}
        ]
    return "\n".join(lines) + "\n"


def _type(shape: dict[str, Any]) -> str:
    if "anyOf" in shape:
        return " or ".join(_type(form) for form in shape["anyOf"])
    if "$ref" in shape:
        return "object"
    if "enum" in shape:
        return ", ".join(f"`{value}`" for value in shape["enum"])
    if shape.get("format") == "date-time":
        return "moment"
    if shape.get("type") == "array" and shape.get("items"):
        return f"list of {_type(shape['items'])}"
    return str(shape.get("type", "any"))
