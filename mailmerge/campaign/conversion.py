"""``mailmerge convert``: another program's files, written as a campaign folder. Nothing is overwritten."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from mailmerge.campaign.adoption import LARGEST
from mailmerge.campaign.workspace import STATE_FOLDER
from mailmerge.convert.awdeorio import find_template, take_over
from mailmerge.convert.taken import attachment_rule, campaign_toml
from mailmerge.convert.thunderbird import Settings
from mailmerge.designs.conversion import convert
from mailmerge.designs.names import ListColumns
from mailmerge.files import create_file
from mailmerge.folders import read_plain
from mailmerge.options import CAMPAIGN_FILE
from mailmerge.suggest import login_command
from mailmerge.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mailmerge.convert.sheets import SheetStatus
    from mailmerge.convert.taken import Server, TakenOver
    from mailmerge.recipients import RecipientList

_INCLUDED: Final = re.compile(r"\{%[-+]?\s*(?:include|extends|import|from)\s+[\"']([^\"']+)[\"']")
_PICTURE: Final = re.compile(
    r"""\bsrc\s*=\s*["']([^"'{}]{1,500})["']|!\[[^\[\]]{0,500}\]\(\s{0,9}<?([^)\s>{}]{1,500})""",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//|#")


class Conversion(Struct, frozen=True):
    """What was written, and what became of the rest."""

    folder: Path
    files: tuple[str, ...]
    changed: tuple[str, ...] = ()
    """What is written in another way now."""
    left: tuple[str, ...] = ()
    """What was not taken over, each with its reason."""
    adopted: tuple[str, ...] = ()
    """What was made of a letter, a draft or a design, line by line."""


def convert_template(
    template: Path, out: Path | None, server: Path | None = None, database: Path | None = None
) -> Conversion:
    """Write a campaign file and bodies for a template of awdeorio's mailmerge; list and attachments stay.

    Args:
        template: the template, as `find_template` returns it.
        out: the folder; default: the template's own.
        server: its server configuration, where that is not next to it.
        database: its list, where that is not next to it.

    Raises:
        CampaignFileError: the folder is a campaign, or a file cannot be read or translated.
        FileError: a file cannot be written.

    """
    taken = take_over(template, server, database)
    if database is not None:
        taken.tables["data"]["source"] = _from(taken.folder, database)
    folder = out or taken.folder
    files, tables = _bodies(taken)
    if folder.resolve() != taken.folder.resolve():
        if template.name == "mailmerge_template.txt":
            tables["name"] = folder.resolve().name
        _move(tables, files, taken, folder)
        if (taken.folder / STATE_FOLDER).is_dir():
            taken.left.append(
                f"what was sent from {taken.folder}: {folder} starts with the whole list; without --out the "
                "rows that were sent stay sent"
            )
    if taken.server is not None:
        _say_server(taken, tables, folder, files)
    if (folder / STATE_FOLDER).is_dir():
        taken.changed.append("rows that were sent from here stay sent; `--accept-changes` sends the others")
    made = {CAMPAIGN_FILE: campaign_toml(tables).encode(), **files}
    write_new(folder, made)
    return Conversion(folder, tuple(made), tuple(taken.changed), tuple(taken.left))


class Wanted(Struct, frozen=True):
    """What a campaign is made of besides its list."""

    design: Path | None = None
    """A Word letter, a draft or a design; None: a stock template takes its place."""
    sender: str | None = None
    subject: str | None = None
    account: str | None = None
    settings: Settings | None = None


def convert_list(
    out: Path, recipients: RecipientList, reading: Mapping[str, object], wanted: Wanted
) -> Conversion:
    """Write a campaign for a list that another program has sent to: its sent rows are not sent again.

    Args:
        out: the folder.
        recipients: the list.
        reading: the options by which the list was read.
        wanted: the message, and what is known about its sending.

    Raises:
        CampaignFileError: the folder is a campaign, or what is given cannot become one.
        FileError: a file cannot be written.

    """
    from mailmerge.campaign.scaffold import Sending, make_campaign
    from mailmerge.convert.sheets import read_status

    status = read_status(recipients.columns, recipients)
    settings = wanted.settings or Settings()
    told = dict(reading)
    if status.where:
        told["where"] = status.where
    made = make_campaign(
        out,
        recipients,
        kind=wanted.design or "letter",
        sender=wanted.sender,
        subject=wanted.subject,
        sending=Sending(
            wanted.account, tuple(_rule(path, recipients) for path in settings.attachments), settings.send
        ),
        reading=told,
    )
    changed = [*_skipped(status), *settings.changed]
    if wanted.design is None:
        changed.append(
            f"the letter is a stock template: write yours into {made.files[1]}, or name it with --from"
        )
    left = [*settings.left, *status.left]
    return Conversion(out, made.files, tuple(changed), tuple(left), made.adopted)


def _skipped(status: SheetStatus) -> Iterator[str]:
    for column in status.columns:
        if column.skipped:
            counts = ", ".join(f"{count:,} {value}" for value, count in column.skipped.most_common(6))
            more = f" and {len(column.skipped) - 6} other values" if len(column.skipped) > 6 else ""
            yield f"rows with something in column {column.heading} are skipped: {counts}{more}"
    if status.columns:
        waiting = status.rows - status.skipped
        rows = plural(status.rows, "row")
        yield f"still to be sent: {waiting:,} of {rows} (`where` in campaign.toml selects them)"


def _rule(path: str, recipients: RecipientList) -> dict[str, Any]:
    made = convert(path.replace("\\", "/"), ListColumns(recipients.columns)).text
    return attachment_rule(made)


def write_new(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files that do not exist yet: all of them, or none.

    Raises:
        CampaignFileError: one of them exists (C450).
        FileError: one cannot be written.

    """
    from mailmerge.campaign.scaffold import refuse_overwriting

    refuse_overwriting(folder, files, hint="nothing is overwritten: name another folder with --out")
    for name, content in files.items():
        create_file(folder / name, content, mode=0o600 if name == ".env" else None)


def _bodies(taken: TakenOver) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the bodies as files, and the sections that name them."""
    tables = {key: dict(value) if isinstance(value, dict) else value for key, value in taken.tables.items()}
    tables["attach"] = [dict(rule) for rule in taken.tables.get("attach", ())]
    files: dict[str, bytes] = {}
    for key, name in taken.bodies.items():
        files[name] = str(tables["message"][key]).encode()
        tables["message"][key] = name
    return files, tables


def _move(tables: dict[str, Any], files: dict[str, bytes], taken: TakenOver, folder: Path) -> None:
    """Name from another folder what stays where it is; what templates include and show must be copied."""
    source = Path(tables["data"]["source"])
    tables["data"]["source"] = _from(folder, taken.folder / source)
    for rule in tables["attach"]:
        base = str(rule.get("base", "."))
        rule["base"] = base if base.startswith(("/", "~")) else _from(folder, taken.folder / base)
    todo = [content.decode() for content in files.values()]
    while todo:
        text = todo.pop()
        included = _INCLUDED.findall(text)
        shown = [one or other for one, other in _PICTURE.findall(text)]
        for name in (*included, *(name for name in shown if not _SCHEME.match(name))):
            content = None if name in files else _inside(taken, name)
            if content is not None:
                files[name] = content
                if name in included:
                    todo.append(content.decode("utf-8", "replace"))


def _inside(taken: TakenOver, name: str) -> bytes | None:
    """Read a file of the template's folder; None: it is not there, which is reported."""
    path = taken.folder / name
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(taken.folder)):
        taken.left.append(f"{name}: it is not in the template's folder")
        return None
    try:
        return read_plain(path, LARGEST)
    except OSError as error:
        taken.left.append(f"{name}: {(error.strerror or str(error)).lower()}")
        return None


def _from(folder: Path, path: Path) -> str:
    return os.path.relpath(path.resolve(), folder.resolve()).replace(os.sep, "/")


# --- the server --------------------------------------------------------------------------------------------


def _say_server(taken: TakenOver, tables: dict[str, Any], folder: Path, files: dict[str, bytes]) -> None:
    """Write the sign-in into ``.env``, which is not part of the campaign; no secret is in it."""
    server = taken.server
    assert server is not None
    if server.values["auth"] == "token":
        taken.left.append(
            f"the sign-in by XOAUTH of {server.origin}: an account of yours signs in with tokens, "
            f"see `{login_command()}` (docs/sign-in.md)"
        )
        return
    content = dotenv(server, tables["message"].get("from", ""))
    if os.path.lexists(folder / ".env"):
        names = ", ".join(line for line in content.splitlines() if not line.startswith("#"))
        taken.left.append(f"the server of {server.origin}: an .env already exists; add to it: {names}")
        return
    files[".env"] = content.encode()
    taken.changed.append(
        f"the server of {server.origin} is in .env; the password comes from SMTP_AUTH there or in your "
        "environment, from the keyring, or is asked for"
    )


def dotenv(server: Server, sender: str) -> str:
    """Return a server as variables of ``.env``."""
    values = server.values
    lines = {"SMTP_SERVER": values["host"], "SMTP_PORT": str(values["port"]), "SMTP_TLS": values["tls"]}
    if "user" in values:
        lines["SMTP_USER"] = values["user"]
    if "{" not in sender and sender:
        lines["SMTP_FROM"] = sender
    written = [f"{name}={_quoted(value)}\n" for name, value in lines.items()]
    secret = "# SMTP_AUTH=...   the password, if it is not to be asked for\n" if "user" in values else ""
    return "".join(written) + secret


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[\w@.:/+-]+", value) else json.dumps(value, ensure_ascii=False)


__all__ = ["Conversion", "convert_template", "find_template"]
