"""What a campaign's folder reads from outside, where its list is, and whom its messages also go to.

All of it is shown, never hidden.

The folder may come from anybody, as a zip, a clone or on a shared drive. A path in its campaign file that
leads elsewhere is its author's decision, and is shown before anything is sent; a link that does is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mailmerge.errors import CampaignFileError
from mailmerge.lazy_re import lazy_re
from mailmerge.text import plural

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from mailmerge.config.campaign_file import CampaignFile
    from mailmerge.config.environment import Environment
    from mailmerge.plan.rows import PlanSummary

_SHOWN = 3
_CLOUDS: Final = lazy_re(
    r"(OneDrive|Dropbox|Google ?Drive|My Drive|iCloud|Mobile Documents|Nextcloud|ownCloud|Box(?: Sync)?"
    r"|pCloud ?Drive|Seafile|MEGA)(?:\Z| |-|\()"
)
"""Names of folders that a program keeps in step with a server."""
_SLACK: Final = 2.0
"""Seconds by which file systems differ in the time that they record for a change."""


def refuse_links_out(file: CampaignFile, environment: Environment, given: Container[str]) -> None:
    """Refuse a campaign whose files are links that lead out of its folder.

    Args:
        file: the campaign.
        environment: its variables.
        given: parameters that whoever runs it has named: those files are that person's own decision.

    Raises:
        CampaignFileError: one of them is.

    """
    folder = Path(os.path.abspath(file.folder))  # noqa: PTH100  links in it stay as they are
    for name, path, what in _read(file, environment, given):
        named = Path(os.path.abspath(path))  # noqa: PTH100
        if named.is_relative_to(folder) and not _is_inside(path, file.folder):
            raise CampaignFileError(
                f"{what} {path} is a link that leads out of the campaign's folder, to {shown(path)}",
                code="C422",
                hint=f"copy the file into the folder, or name the place itself: {name or 'in your shell'}",
                place=file.places.get(name),
            )


def notices(
    file: CampaignFile, environment: Environment, given: Container[str], summary: PlanSummary
) -> Iterator[str]:
    """Yield what is read from outside, what ``.env`` may not set, and who gets copies and answers."""
    for _, path, what in _read(file, environment, given):
        if not _is_inside(path, file.folder):
            yield f"reads from outside the folder: {shown(path)} ({what})"
    if "data_source" not in given and file.data.source.is_file():
        yield from about_list(file.data.source, file.folder, file.data.original)
    if environment.not_used:
        names = ", ".join(environment.not_used)
        yield f"not used: {names} in {environment.path}; if you mean it, set it in your own environment"
    yield from _copies(file, summary)
    if summary.reduced:
        yield f"where leaves rows out of {plural(summary.reduced, 'message')} that other rows are in"


def _copies(file: CampaignFile, summary: PlanSummary) -> Iterator[str]:
    message = file.message
    headers = (("Cc", message.cc), ("Bcc", message.bcc), ("Reply-To", message.reply_to))
    for header, values in headers:
        if values:
            more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
            yield f"{header}: {', '.join(values[:_SHOWN])}{more}"
    if summary.copied and any("{" in value for value in (*message.cc, *message.bcc)):
        more = (
            f" and {summary.copied - len(summary.copies):,} more"
            if len(summary.copies) < summary.copied
            else ""
        )
        yield f"Copies go to {', '.join(summary.copies)}{more}"
    if message.sender:
        yield f"Sender: {message.sender}"


def _read(
    file: CampaignFile, environment: Environment, given: Container[str]
) -> Iterator[tuple[str, Path, str]]:
    """Yield the option, the path and what it is of everything that the campaign file has read."""
    if file.path is None:  # whoever runs it has named everything
        return
    message, data = file.message, file.data
    bodies = (
        ("message.text", message.text),
        ("message.html", message.html),
        ("message.layout", message.layout),
    )
    for name, path in bodies:
        if isinstance(path, Path) and _option(name) not in given:
            yield name, path, "the template"
    if "data_source" not in given:
        yield "data.source", data.source, "the list"
    if "data_suppress" not in given:
        for path in data.suppress:
            yield "data.suppress", path, "the list of opt-outs"
    if "attach" not in given:
        for number, rule in enumerate(file.attach):
            yield f"attach[{number}].base", rule.base, "the folder of attachments"
        made = ((number, rule.template) for number, rule in enumerate(file.attach))
        yield from (
            (f"attach[{number}].template", path, "the template") for number, path in made if path is not None
        )
    if environment.path is not None:
        yield "", environment.path, "the file of settings"
    yield "", file.path, "the campaign file"


def _option(name: str) -> str:
    return name.replace(".", "_")


def _is_inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def shown(path: Path) -> str:
    """Return where a path leads, relative to the user's home folder if it is there."""
    real, home = os.path.realpath(path), os.path.realpath(Path.home())
    return f"~{real[len(home) :]}" if real.startswith(home + os.sep) else real


def about_list(path: Path, folder: Path, original: Path | None = None) -> Iterator[str]:
    """Yield reasons why a list may differ from what its owner sees.

    Args:
        path: the list.
        folder: the campaign's folder.
        original: what the list was copied from, relative to the folder; None: it is not a copy.

    """
    if original is not None:
        yield from _about_original(path, folder / original)
    for one in (path, *([folder / original] if original is not None else [])):
        if lock := _open_elsewhere(one):
            yield f"{one.name} is open in a spreadsheet program ({lock}): unsaved changes are not read"
    if cloud := next((found[1] for part in path.parts if (found := _CLOUDS.match(part))), None):
        yield f"{path.name} is in a cloud folder ({cloud}): make sure that it is up to date on this machine"
    elif _on_other_device(path, folder):
        yield f"{path.name} is on another drive than the campaign: it has to be connected whenever you send"


def _about_original(copy: Path, original: Path) -> Iterator[str]:
    try:
        newer = original.stat().st_mtime > copy.stat().st_mtime + _SLACK
        if newer and original.read_bytes() != copy.read_bytes():
            yield f"{copy.name} is a copy, and {original} is newer: copy it again if you mean the new one"
    except OSError:  # it was moved or removed: the copy is what counts
        return


def _open_elsewhere(path: Path) -> str | None:
    """Find the file by which Excel or LibreOffice shows that it has a document open."""
    names = (f"~${path.name}", f"~${path.name[2:]}", f".~lock.{path.name}#")
    return next((name for name in names if os.path.lexists(path.parent / name)), None)


def _on_other_device(path: Path, folder: Path) -> bool:
    try:
        here = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
        return path.stat().st_dev != here.stat().st_dev
    except (OSError, StopIteration):
        return False
