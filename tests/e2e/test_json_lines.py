"""What ``--json`` prints has the shape that docs/json.md and ``mailmerge schema output`` say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema

from mailmerge.cli.json_lines import as_markdown, output_schema
from reports import delivery_report
from servers.command import results

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
    assert everything - told == {"progress", "worker", "fleet"}  # tests/e2e/test_fleet.py has workers
    assert told <= everything
