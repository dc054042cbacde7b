"""``mailmerge convert``: a campaign folder from another program's files."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mailmerge.campaign.adoption import LARGEST, LETTER
from mailmerge.campaign.conversion import Conversion, Wanted, convert_list, convert_template
from mailmerge.cli.init import origins
from mailmerge.cli.options import options_of
from mailmerge.cli.output import out
from mailmerge.cli.questions import HIDDEN, READING, opened, types_of
from mailmerge.convert.awdeorio import find_template
from mailmerge.convert.thunderbird import is_settings, read_settings
from mailmerge.errors import CampaignFileError, ListError
from mailmerge.folders import read_plain
from mailmerge.options import CAMPAIGN_FILE
from mailmerge.suggest import Invocation, suggested

if TYPE_CHECKING:
    from mailmerge.convert.thunderbird import Settings

_PATH = click.Path(path_type=Path)
_LISTS: Final = frozenset({".csv", ".tsv", ".txt", ".tab", ".xlsx", ".xlsm", ".xls", ".ods"})
_LETTERS: Final = frozenset({".doc", ".dot", ".dotx", ".docm", ".rtf", ".odt", ".pages"})
_DRAFTS: Final = frozenset({".eml", ".html", ".htm", ".mjml"})


@click.command("convert")
@click.argument("source", type=_PATH, default=Path())
@options_of("convert")
def convert(*, source: Path, server_conf: Path | None, into: Path | None, **options: Any) -> int:
    """Write a campaign folder from SOURCE, which another program made; nothing is overwritten.

    SOURCE is a folder or a template of awdeorio's mailmerge; a Word letter (.docx) with merge fields; a
    sheet of GMass or YAMM, whose sent rows are skipped; or prefs.js, or its folder, with the settings of
    Thunderbird's Mail Merge. --list names the list of a letter, --from the draft (.eml) of a sheet. The
    command reports what was taken over, and what was not.

    \b
    Examples:
      mailmerge convert old/mailmerge_template.txt --out spring
      mailmerge convert letter.docx --list people.xlsx --out spring
    """  # noqa: D301  click's own mark
    if (template := find_template(source)) is not None:
        _tell(convert_template(template, into, server_conf, options["data_source"]))
        return 0
    design, sender = origins(options["origins"])
    reading = {name: options.get(f"data_{name}") for name in READING}
    reading["types"] = types_of(options["types"])
    listed: Path | None = options["data_source"]
    settings: Settings | None = None
    subject: str | None = options["message_subject"]
    if is_settings(prefs := source / "prefs.js" if source.is_dir() else source):
        settings = read_settings(prefs)
        listed, stem = listed or _beside(prefs, settings.source), "campaign"
        reading = {**settings.reading, **{key: value for key, value in reading.items() if value is not None}}
    elif source.suffix.lower() == LETTER:
        design, stem = source, source.stem
        listed = listed or _list_of(source, reading)
    elif source.suffix.lower() in _LISTS and source.is_file():
        listed, stem = source, source.stem
    else:
        raise _unknown(source)
    if listed is None:
        raise CampaignFileError(
            f"the list of {source} is not known", code="C545", hint="name it: --list contacts.xlsx"
        )
    recipients = opened(listed, None, reading)
    if reading.get("hidden") is None and _has_hidden(listed, reading):
        reading["hidden"] = "skip"
        recipients = opened(listed, None, reading)
    wanted = Wanted(design, sender, subject, options["account"], settings)
    _tell(convert_list(into or Path(stem), recipients, reading, wanted))
    return 0


def _has_hidden(listed: Path, reading: dict[str, Any]) -> bool:
    """Return whether a sheet has rows that a filter hides: add-ons send to the visible ones only."""
    try:
        deque(opened(listed, None, {**reading, "hidden": "refuse"}), maxlen=0)
    except ListError as error:
        return error.code == HIDDEN
    return False


def _list_of(letter: Path, reading: dict[str, Any]) -> Path | None:
    """Find the list that a letter was merged with: next to it, whatever folder the letter names."""
    from mailmerge.convert.word import source_of

    try:
        said = source_of(read_plain(letter, LARGEST), str(letter))
    except OSError as error:
        raise CampaignFileError(f"cannot read {letter}: {error.strerror}", code="C407") from None
    found = _beside(letter, said.source)
    if found is not None and said.sheet and reading.get("sheet") is None:
        reading["sheet"] = said.sheet
    return found


def _beside(file: Path, named: str) -> Path | None:
    """Return the list of that name in the folder of a file: the path in that file may come from anybody."""
    beside = file.parent / Path(named.replace("\\", "/")).name
    return beside if named and beside.is_file() else None


def _unknown(source: Path) -> CampaignFileError:
    hint = "name a folder with mailmerge_template.txt, a letter (.docx), a sheet (.xlsx, .csv) or prefs.js"
    if (source / CAMPAIGN_FILE).is_file():
        line = suggested(Invocation("convert", str(source)), "check")
        return CampaignFileError(
            f"{source} is already a campaign: it has a {CAMPAIGN_FILE}", code="C542", hint=f"check it: {line}"
        )
    if not source.exists():
        return CampaignFileError(f"{source} does not exist", code="C542", hint=hint)
    if source.suffix.lower() in _LETTERS:
        hint = "open it in Word or LibreOffice, and save it as .docx"
    elif source.suffix.lower() in _DRAFTS:
        line = suggested(
            Invocation("convert", None), "init", "--list", "contacts.xlsx", "--from", str(source)
        )
        hint = f"a draft or a design is converted together with its list: {line}"
    return CampaignFileError(f"{source} cannot be converted", code="C542", hint=hint)


def _tell(made: Conversion) -> None:
    out(f"Created {made.folder}/: {'  '.join(made.files)}")
    for line in made.adopted:
        out(line)
    for line in made.changed:
        out(f"Now: {line}.")
    for line in made.left:
        out(f"Not taken over: {line}.")
    out(f"Next: {suggested(Invocation('convert', str(made.folder)), 'check')}")
