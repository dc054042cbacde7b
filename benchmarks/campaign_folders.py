"""The newsletter and the short text as campaigns: ours in a folder, and as awdeorio's mailmerge wants it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import fixtures
from builders import rival_template

if TYPE_CHECKING:
    from pathlib import Path


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which nothing of this user's is read or written."""
    own = {
        "MAILMERGE_CONFIG": str(folder / "config.toml"),
        "MAILMERGE_STATE_DIR": str(folder / "state"),
        "MAILMERGE_CACHE_DIR": str(folder / "cache"),
    }
    return {**os.environ, **own}


def write_campaign(
    folder: Path,
    people: Path,
    *,
    variant: str = "plain",
    host: str = "127.0.0.1",
    port: int = 9,
    pipeline: str = "auto",
) -> Path:
    """Write a campaign of the newsletter or the short text, with an account of its own."""
    mailing = fixtures.mailing(variant)
    folder.mkdir(exist_ok=True)
    text, html = with_variables(mailing, mailing.text), with_variables(mailing, mailing.html_with(""))
    (folder / "body.txt").write_text(text or "", "utf-8")
    lines = [
        'account = "bench"',
        f'[data]\nsource = "{people}"',
        f'[message]\nfrom = "{fixtures.SENDER_NAME} <{fixtures.SENDER}>"',
        'to = "{{ name }} <{{ email }}>"',
        f"subject = '''{mailing.subject}'''",
        'text = "body.txt"',
        f"headers.List-Unsubscribe = '{fixtures.UNSUBSCRIBE}'",
    ]
    if html:
        (folder / "body.html").write_text(html, "utf-8")
        lines.append('html = "body.html"')
    (folder / "campaign.toml").write_text("\n".join(lines) + "\n", "utf-8")
    account = [
        "[accounts.bench]",
        f'host = "{host}"',
        f"port = {port}",
        'tls = "none"',
        'auth = "none"',
        "any_from = true",
        f'pipeline = "{pipeline}"',
    ]
    (folder / "config.toml").write_text("\n".join(account) + "\n", "utf-8")
    return folder


def with_variables(mailing: fixtures.Mailing, source: str | None) -> str | None:
    """Set the mailing's variables in the template itself: campaign files cannot contain lists of tables."""
    if not source or not mailing.variables:
        return source
    used = [(name, value) for name, value in mailing.variables.items() if name in source]
    return "".join(f"{{% set {name} = {value!r} %}}" for name, value in used) + source


def write_rival(folder: Path, people: Path, host: str, port: int) -> Path:
    """Write the newsletter for awdeorio's mailmerge."""
    folder.mkdir(exist_ok=True)
    mailing = fixtures.mailing("plain")
    head, mark, body = rival_template(mailing).partition("--boundary\nContent-Type: text/plain")
    sets = with_variables(mailing, mailing.text + (mailing.html or "")) or ""
    sets = sets[: sets.index("Hello")]
    (folder / "mailmerge_template.txt").write_text(sets + head + mark + body, "utf-8")
    (folder / "mailmerge_server.conf").write_text(f"[smtp_server]\nhost = {host}\nport = {port}\n", "utf-8")
    (folder / "mailmerge_database.csv").write_bytes(people.read_bytes())
    return folder
