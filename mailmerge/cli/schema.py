"""``mailmerge schema``: what a file may say, for editors."""

from __future__ import annotations

import json
from typing import get_args

import click

from mailmerge.config.option_docs import SchemaName, json_schema


@click.command("schema")
@click.argument("name", type=click.Choice(get_args(SchemaName)), default="campaign", required=False)
def command(*, name: SchemaName) -> int:
    """Print the JSON Schema of campaign.toml, or of the accounts in your config.toml.

    Editors complete and check keys with it: mailmerge schema > campaign.schema.json, and in the first line
    of campaign.toml write #:schema ./campaign.schema.json.
    """
    click.echo(json.dumps(json_schema(name), indent=2, ensure_ascii=False))
    return 0
