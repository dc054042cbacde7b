"""What ``--json`` prints has the shape that docs/json.md and ``mailmerge schema output`` say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema

from mailmerge.campaign.fleet import FleetStatus
from mailmerge.cli.fleet import _EventWriter, _plain
from mailmerge.cli.json_lines import as_markdown, output_schema
from mailmerge.cli.output import emit
from mailmerge.cli.progress import Bar
from mailmerge.fleet.worker import WorkerEvent
from mailmerge.model import Counts, Status
from mailmerge.sending.runs import Progress
from reports import delivery_report
from servers.command import results, valid_line

if TYPE_CHECKING:
    from servers.command import Mailmerge

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date() -> None:
    """``docs/json.md`` is what ``scripts/write-json-page`` would write."""
    assert (ROOT / "docs" / "json.md").read_text("utf-8") == as_markdown()


def test_every_command_prints_lines_of_documented_shapes(mailmerge: Mailmerge, sandbox) -> None:
    """Types and fields are those of the schema; none is missing, and none is not described."""
    schema = mailmerge("schema", "output")
    assert json.loads(schema.out) == output_schema()
    jsonschema.Draft202012Validator.check_schema(output_schema())
    campaign = mailmerge.campaign(
        people_csv="email,name\nana@example.com,Ana\nbo@example.net,Bo\nnobody,No\n"
    )
    mailmerge.account(sandbox)
    mailmerge("suppress", "add", "x@example.org")
    lines = [
        *mailmerge("check", "spring", "--json").objects,
        *mailmerge("rehearse", "spring", "--json").objects,
        *mailmerge("test", "spring", "--to", "me@example.org", "--json").objects,
        *mailmerge("send", "spring", "--yes", "--skip-invalid", "--json").objects,
        *mailmerge("status", "spring", "--json").objects,
        *mailmerge("report", "spring", "--json").objects,
        *mailmerge("providers", "--json").objects,
        *mailmerge("suppress", "list", "--json").objects,
    ]
    for folder in ("cur", "new", "tmp"):
        (mailmerge.folder / "box" / folder).mkdir(parents=True)
    message_id = next(row["message_id"] for row in results(campaign) if row["message_id"])
    (mailmerge.folder / "box" / "new" / "1.test").write_bytes(delivery_report(message_id))
    lines += mailmerge("bounces", "spring", "--maildir", "box", "--json").objects
    told = {line["type"] for line in lines}
    everything = {
        part["properties"]["type"]["enum"][0]
        for part in output_schema()["$defs"].values()
        if "type" in part["properties"]
    }
    assert everything - told == {"progress", "worker", "fleet"}
    assert told <= everything


def test_the_lines_of_a_fleet_have_documented_shapes(capsys) -> None:
    """What a worker tells, what `fleet` shows, and how far the workers of a run are."""
    _EventWriter(as_json=True, verbose=False)(
        WorkerEvent("slot_began", "begins", "work", "spring", 3, {"accepted": 1})
    )
    emit("fleet", **_plain(FleetStatus("office", (), (), (), {"work": 1})))
    Bar(as_json=True).observe(Progress(counts=Counts({Status.ACCEPTED: 1}), in_flight=0))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["type"] for line in lines] == ["worker", "fleet", "progress"]
    for line in lines:
        valid_line(line)
