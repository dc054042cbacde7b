"""Reads the folder of a campaign: one of ours, or one of another program, unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mailmerge.config import campaign_file
from mailmerge.config.environment import Environment
from mailmerge.config.toml_document import Document, TomlPlaces
from mailmerge.options import CAMPAIGN_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailmerge.campaign.definition import Definition
    from mailmerge.config.accounts import Account
    from mailmerge.config.campaign_file import CampaignFile
    from mailmerge.convert.taken import Server, TakenOver


def read_folder(
    path: Path,
    options: Mapping[str, object],
    settings: Sequence[str],
    environ: Mapping[str, str],
    *,
    command: str,
) -> tuple[CampaignFile, Environment, Account | None]:
    """Read a campaign from its folder, its ``.toml`` file, or a template of awdeorio's mailmerge.

    Args:
        path: the folder or file.
        options: values by name.
        settings: strings ``section.key=value``.
        environ: the environment variables.
        command: the command that a person typed; empty: a program asks.

    Returns:
        The campaign, its variables, and the account that a server configuration next to a template describes;
        None: there is none, or whoever runs it has named another.

    Raises:
        CampaignFileError: with every problem in it.
        TemplateError: the template of another program cannot be translated.

    """
    template = foreign_template(path)
    folder = (template or path).parent if template or path.suffix == ".toml" else path
    environment = Environment.read(folder, environ)
    overrides = campaign_file.Overrides(options, settings, environment.real, bool(command), command)
    if template is None:
        return campaign_file.load(path, overrides), environment, None
    from mailmerge.convert.awdeorio import take_over

    listed = options.get("data.source")
    taken = take_over(template, database=None if listed is None else Path(str(listed)))
    file = campaign_file.from_document(document_of(taken), overrides)
    return file, environment, _account(taken.server, file, environment)


def foreign_template(path: Path) -> Path | None:
    """Find the template of awdeorio's mailmerge in a folder, or at a path itself; None: it is ours."""
    if path.suffix == ".toml" or (path / CAMPAIGN_FILE).exists():
        return None
    from mailmerge.convert.awdeorio import find_template

    return find_template(path)


def document_of(taken: TakenOver) -> Document:
    """Return what was taken over as the document of a campaign file, with the places in its files."""
    return Document(taken.origin, taken.folder, taken.tables, TomlPlaces(taken.places, taken.places))


def sent_by(definition: Definition, server: Server) -> Definition:
    """Return the campaign, sent by the server that whoever runs it has named; an account takes precedence.

    Raises:
        CampaignFileError: the server's settings are not valid.

    """
    account = _account(server, definition.file, definition.environment)
    return replace(definition, given_account=account or definition.given_account)


def _account(server: Server | None, file: CampaignFile, environment: Environment) -> Account | None:
    if server is None or file.account is not None:
        return None
    from mailmerge.config.accounts import account_of_folder

    return account_of_folder(
        server.values, environment=environment, origin=server.origin, campaign_from=file.message.from_
    )
