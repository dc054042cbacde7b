"""Which ledger a campaign has: the file in its folder, or a database that is named outside of the folder.

A campaign's folder may come from anybody, and must not decide where this machine connects to. So its file
only names a ledger of the user's ``config.toml`` (``[ledgers.NAME]``, with a ``url``); an address is accepted
from there, from the command line and from the real environment.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from mailmerge.config.accounts import default_config_path
from mailmerge.config.toml_document import TomlProblems, read_document
from mailmerge.ledger.server_place import ServerPlace
from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mailmerge.config.campaign_file import CampaignFile
    from mailmerge.config.environment import Environment
    from mailmerge.errors import CampaignFileError

TABLE = "ledgers"
_SCHEMES = ("postgresql://", "postgres://")
_SECRET_WORDS = frozenset({"password", "sslpassword"})


def ledger_of(
    file: CampaignFile, config_path: Path, environ: Mapping[str, str], *, given: bool, typed: bool
) -> ServerPlace | None:
    """Return the database that has a campaign's ledger; None: it is the file in its folder.

    Args:
        file: the campaign's options, with those that override them.
        config_path: the user's ``config.toml``.
        environ: the real environment.
        given: whether whoever runs the campaign named it.
        typed: whether on a command line.

    Raises:
        CampaignFileError: the ledger does not exist, or the campaign's folder names a server itself.

    """
    said = file.ledger
    if not said:
        return None
    found = file.places.get("ledger")
    place = Place(path=found.path) if found and is_address(said) else found  # the line may have a password
    if is_address(said):
        from_environment = environ.get("MAILMERGE_LEDGER") == said
        if not given and not from_environment:
            raise _problem(
                "`ledger` of a campaign only names a ledger of your config.toml",
                f'write [{TABLE}.NAME] with url = "…" there, and ledger = "NAME" here; or use --ledger',
                place,
            )
        if typed and given and not from_environment and has_password(said):
            raise _typed_password()
        return server(said)
    return server(_configured(said, config_path, place))


def named(said: str, config_path: Path, *, typed: bool) -> ServerPlace:
    """Return the database that whoever runs a command names: by an address, or by its name in config.toml.

    Raises:
        CampaignFileError: the ledger does not exist, or a password was *typed*.

    """
    if not is_address(said):
        return server(_configured(said, config_path, None))
    if typed and has_password(said):
        raise _typed_password()
    return server(said)


def servers(environment: Environment) -> list[ServerPlace]:
    """Return the ledgers of the user's ``config.toml``.

    Raises:
        CampaignFileError: it cannot be read.

    """
    return [
        server(entry["url"])
        for entry in _tables(default_config_path(environment)).values()
        if isinstance(entry, dict) and isinstance(entry.get("url"), str)
    ]


def _tables(config_path: Path) -> Mapping[str, object]:
    tables = read_document(config_path).tables.get(TABLE) if config_path.exists() else None
    return tables if isinstance(tables, dict) else {}


def is_address(text: str) -> bool:
    """Return whether this is an address, or libpq's ``key=value`` form of one, not the name of a ledger."""
    return text.startswith(_SCHEMES) or "=" in text


def server(conninfo: str) -> ServerPlace:
    """Return a database; its shown form has no password."""
    return ServerPlace(conninfo, _shown(conninfo))


def has_password(conninfo: str) -> bool:
    """Return whether an address contains a secret."""
    if conninfo.startswith(_SCHEMES):
        try:
            parts = urlsplit(conninfo)
        except ValueError:
            return True  # who can tell?
        return parts.password is not None or any(name in _SECRET_WORDS for name, _ in parse_qsl(parts.query))
    return any(name in _SECRET_WORDS for name in _words(conninfo))


def _shown(conninfo: str) -> str:
    if conninfo.startswith(_SCHEMES):
        try:
            parts = urlsplit(conninfo)
            whole = "@" not in parts.path + parts.query + parts.fragment
        except ValueError:
            whole = False
        if not whole:  # part of a password may be anywhere
            return "postgresql://…"
        query = dict(parse_qsl(parts.query))
        hosts = parts.netloc.rpartition("@")[2] or query.get("host", "")
        found = {**query, "host": hosts, "dbname": unquote(parts.path.lstrip("/"))}
    else:
        words = _words(conninfo)
        port = f":{words['port']}" if "port" in words else ""
        found = {**words, "host": words.get("host", words.get("hostaddr", "")) + port}
    if found.get("service"):
        return f"postgresql service {found['service']}"
    return f"postgresql://{found.get('host') or 'localhost'}/{found.get('dbname', '')}"


def _words(conninfo: str) -> dict[str, str]:
    try:
        pieces = shlex.split(conninfo)
    except ValueError:
        pieces = conninfo.split()
    return {name.strip(): value for name, sign, value in (piece.partition("=") for piece in pieces) if sign}


def _configured(name: str, config_path: Path, place: Place | None) -> str:
    known = _tables(config_path)
    entry = known.get(name)
    url = entry.get("url") if isinstance(entry, dict) else None
    if entry is not None and not (isinstance(url, str) and is_address(url)):
        raise _problem(
            f"[{TABLE}.{name}] of {config_path} has no usable url",
            'write url = "postgresql://USER@HOST/DATABASE"',
            place,
        )
    if not isinstance(url, str):
        write = f'write [{TABLE}.{name}] with url = "postgresql://…" there'
        hint = f"yours: {', '.join(known)}" if known else write
        raise _problem(f"{config_path} has no ledger {name!r}", hint, place)
    return url


def _typed_password() -> CampaignFileError:
    return _problem(
        "a password in a command line can be read by everybody on this machine",
        f"leave it out, and use ~/.pgpass, [{TABLE}.NAME] of your config.toml, or MAILMERGE_LEDGER",
        None,
    )


def _problem(message: str, hint: str, place: Place | None) -> CampaignFileError:
    return TomlProblems.one("C501", message, hint=hint, place=place)
