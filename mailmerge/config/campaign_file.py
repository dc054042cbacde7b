"""Read ``campaign.toml`` and what options, ``--set`` and the environment override in it into frozen values.

All problems are found together and raised as one `CampaignFileError`.

Order: option, then ``--set``, then ``MAILMERGE_SECTION_KEY``, then the file. Paths in the file, ``--set`` and
the environment are relative to the campaign's folder; paths in options are relative to the working directory,
as the shell completes them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from msgspec import Struct, field

from mailmerge.config.toml_document import (
    Document,
    TomlProblems,
    UnknownKey,
    read_document,
    report_unknown_key,
)
from mailmerge.model import Place
from mailmerge.option_types import AUTO, fields_of
from mailmerge.options import (
    CAMPAIGN,
    CAMPAIGN_FILE,
    COMMAND_LINE,
    PLANNED,
    AttachOptions,
    CheckOptions,
    DataOptions,
    MessageOptions,
    SendOptions,
    TopOptions,
)
from mailmerge.suggest import Invocation, suggested
from mailmerge.text import did_you_mean, near
from mailmerge.validation import ValidationError, describe, read_typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mailmerge.errors import CampaignFileError
    from mailmerge.option_types import Option

LISTS: Final = frozenset(
    """.csv .tsv .tab .txt .xlsx .xlsm .xlsb .xls .ods .fods .numbers .json .jsonl .ndjson .parquet""".split()  # noqa: SIM905
)
"""Suffixes of files that people keep lists in."""
_MOST_ABOVE: Final = 3
_MOST_BELOW: Final = 5
_ATTACH: Final = next(option for option in COMMAND_LINE if option.key == "attach")
"""Not a key but a whole rule."""

# --- the values ---------------------------------------------------------------------------------------


class CampaignFile(TopOptions):
    """Everything that a campaign's author has set, checked; *name* is never empty."""

    path: Path | None
    """The file; None for a campaign that was given by options only."""
    folder: Path
    """Where relative paths begin and the ledger is."""
    data: DataOptions
    message: MessageOptions
    attach: tuple[AttachOptions, ...]
    send: SendOptions
    check: CheckOptions
    places: Mapping[str, Place]
    """Where each value is: ``message.subject``, ``message.to[1]``, ``attach[0].path``."""
    document: Document


class Overrides(Struct, frozen=True):
    """What is set outside of the file."""

    options: Mapping[str, object] = field(default_factory=dict)
    """By name (``data.source``), as values; None means not given."""
    settings: Sequence[str] = ()
    """Arguments of ``--set``: ``section.key=value``."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Where ``MAILMERGE_SECTION_KEY`` is looked up."""
    typed: bool = True
    """A person typed them: messages use their flags, otherwise their names."""
    command: str = ""
    """For which command: without a campaign, the suggestion is this command with the right folder."""


# --- the ways in -----------------------------------------------------------------------------------


def load(path: Path, overrides: Overrides | None = None) -> CampaignFile:
    """Read a campaign from its folder or its ``.toml`` file.

    Raises:
        CampaignFileError: with every problem in it.

    """
    overrides = overrides or Overrides()
    return _build(read_document(_locate(path, overrides)), overrides)


def from_document(document: Document, overrides: Overrides | None = None) -> CampaignFile:
    """Make a campaign from a document that was read elsewhere.

    Raises:
        CampaignFileError: with every problem in it.

    """
    return _build(document, overrides or Overrides())


def from_options(
    folder: Path,
    options: Mapping[str, object],
    *,
    settings: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    typed: bool = True,
) -> CampaignFile:
    """Make a campaign without a file; its name is the list's stem unless ``name`` is given.

    Raises:
        CampaignFileError: with every problem in it.

    """
    return _build(Document.without_file(folder), Overrides(options, settings, environ or {}, typed))


def _locate(path: Path, overrides: Overrides) -> Path:
    if path.suffix == ".toml" and not path.is_dir():
        return path
    inside = path / CAMPAIGN_FILE
    if inside.exists() and not inside.is_dir():  # a pipe or a device is told where it would be read
        return inside
    command = overrides.command or "check"
    if path.is_file():
        raise _not_a(path, "campaign", command)
    if not path.is_dir():
        if path.suffix.lower() in LISTS:
            raise TomlProblems.one("C407", f"no file {path}", hint=_files_like(path))
        hint = _elsewhere(path, command) or _start(path)
        raise TomlProblems.one("C407", f"no campaign folder {path}", hint=hint)
    if source := overrides.options.get("data.source"):
        raise _unfinished(str(source), overrides.options, command)
    others = sorted(other.name for other in path.glob("*.toml"))
    hint = f"did you mean {path / others[0]}?" if others else _around(path, command) or _start(path)
    raise TomlProblems.one("C407", f"no {CAMPAIGN_FILE} in {path}", hint=hint)


def refuse_file(path: Path, instead_of: str) -> NoReturn:
    """Refuse a file that is given where a command or a new folder is expected, with what was probably meant.

    Raises:
        CampaignFileError: always.

    """
    raise _not_a(path, instead_of, "check")


def refuse_list_name(path: Path) -> None:
    """Refuse a list that does not exist where the name of a new folder is expected.

    Raises:
        CampaignFileError: nothing has this name, which is that of a list or of a campaign's file.

    """
    if path.exists():
        return
    if path.name == CAMPAIGN_FILE:
        hint = f"name its folder: {_start(path.parent)}"
        raise TomlProblems.one("C561", f"{path} is not the name of a folder", hint=hint)
    if path.suffix.lower() not in LISTS:
        return
    made = suggested(Invocation("", str(path.with_suffix("")), {"data_source": (str(path),)}), "init")
    hint = _files_like(path) or f"with a list that exists: {made}"
    raise TomlProblems.one("C561", f"{path} is the name of a list, and does not exist", hint=hint)


def _not_a(path: Path, expected: str, command: str) -> CampaignFileError:
    return TomlProblems.one(
        "C561", f"{path} is {_kind(path)}, not a {expected}", hint=_of_file(path, command)
    )


def _start(path: Path) -> str:
    return f"start one: {suggested(Invocation('', str(path)), 'init')}"


def _run(command: str, path: Path) -> str:
    """Return the command for the campaign in a folder, as it is typed from the working directory."""
    return str(suggested(Invocation("", None if path == Path() else str(path)), command))


def _elsewhere(path: Path, command: str) -> str | None:
    """Return a hint at the campaign probably meant by a folder that does not exist: one here, or nearby."""
    for up, above in enumerate((Path.cwd(), *Path.cwd().parents[:_MOST_ABOVE])):
        if path.name == above.name and (above / CAMPAIGN_FILE).is_file():
            return f"you are in that folder: {_run(command, Path(*[os.pardir] * up))}"
    if (Path(os.pardir) / path.name / CAMPAIGN_FILE).is_file():
        return f"there is one next to this folder: {_run(command, Path(os.pardir, path.name))}"
    below = _campaigns_in(path.parent)
    likely = near(path.name, [found.name for found in below])
    inner = [one / path.name for one in below if (one / path.name / CAMPAIGN_FILE).is_file()]
    meant = path.parent / likely[0] if likely else inner[0] if inner else None
    return f"did you mean {_run(command, meant)}?" if meant else None


def _around(folder: Path, command: str) -> str | None:
    """Return a hint at the campaigns in a folder and above it."""
    for up, above in enumerate(folder.resolve().parents[:_MOST_ABOVE], 1):
        if (above / CAMPAIGN_FILE).is_file():
            return f"there is one above: {_run(command, folder.joinpath(*[os.pardir] * up))}"
    below = _campaigns_in(folder)
    if len(below) < 2:
        return f"there is one in it: {_run(command, below[0])}" if below else None
    names = ", ".join(found.name for found in below[:_MOST_BELOW])
    more = ", ..." if len(below) > _MOST_BELOW else ""
    return f"there are some in it: {names}{more}; for the first: {_run(command, below[0])}"


def _campaigns_in(folder: Path) -> list[Path]:
    try:
        return sorted(found.parent for found in folder.glob(f"*/{CAMPAIGN_FILE}") if found.is_file())
    except OSError:
        return []


def _kind(path: Path) -> str:
    """Return what a file is; a text file next to a campaign's file is one of its templates."""
    text = path.suffix.lower() == ".txt" and (path.parent / CAMPAIGN_FILE).is_file()
    return "a list" if path.suffix.lower() in LISTS and not text else "a file"


def _of_file(path: Path, command: str) -> str:
    """Return a hint at the campaign that a list or a template belongs to, or how to make one for a list."""
    if path.suffix == ".toml":
        return f"write {_run(command, path)}"
    if (path.parent / CAMPAIGN_FILE).is_file():
        return f"its campaign is the folder that it is in: {_run(command, path.parent)}"
    if path.suffix.lower() not in LISTS:
        return f"a campaign is a folder with {CAMPAIGN_FILE}, or that file"
    name = path.with_suffix("") if not path.with_suffix("").exists() else path.with_name(f"{path.stem}-mail")
    made = suggested(Invocation("", str(name), {"data_source": (str(path),)}), "init")
    return f"make one for it: {made}"


def _files_like(path: Path) -> str | None:
    try:
        beside = [found.name for found in path.parent.iterdir() if found.suffix.lower() in LISTS]
    except OSError:
        return None
    return did_you_mean(path.name, beside)


def _unfinished(source: str, options: Mapping[str, object], command: str) -> CampaignFileError:
    """Return the error for a list without a campaign: what else it needs, and how to give it."""
    missing = [] if "message.subject" in options else ["--subject"]
    missing += [] if {"message.text", "message.html"} & options.keys() else ["--text or --html"]
    made = suggested(Invocation("", None, {"data_source": (source,)}), "init")
    message = f"no campaign was found here, and `{command} --list` alone has no message to send"
    return TomlProblems.one("C560", message, hint=f"add {' and '.join(missing)}; or make a campaign: {made}")


# --- building ----------------------------------------------------------------------------------------------

_Values = dict[str, Any]


class _Builder:
    """Collects values section by section, and everything that is wrong with them."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.typed = True
        self.problems = TomlProblems()
        self.sections: dict[str, _Values] = {section: {} for section in CAMPAIGN if section != "attach"}
        self.rules: list[_Values] = []
        self.given: set[str] = set()
        self.overridden: dict[str, Place] = {}
        """Names that were written, even with a value that was refused: they are not missing."""

    def read_file(self) -> None:
        self.document.report_passwords(self.problems, planned=PLANNED)
        for name, value in self.document.tables.items():
            if name == "attach":
                self._read_rules(value)
            elif name in CAMPAIGN and name:
                if isinstance(value, dict):
                    self._read_section(name, value)
                else:
                    self._report(name, f"must be a section, not {describe(value)}", f"write [{name}]")
            else:
                self._read_key("", name, value, name)

    def _read_section(self, section: str, table: Mapping[str, object]) -> None:
        for key, value in table.items():
            self._read_key(section, key, value, f"{section}.{key}")

    def _read_rules(self, value: object) -> None:
        if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            self._report("attach", "must be written as [[attach]] with a `path` or `template` in it", None)
            return
        for number, table in enumerate(value):
            rule: _Values = {}
            at = f"attach[{number}]"
            for key, entry in table.items():
                self._read_key("attach", key, entry, f"{at}.{key}", into=rule)
            self.rules.append(rule)
            self._check_rule(at, table)

    def _check_rule(self, at: str, table: Mapping[str, object]) -> None:
        """Make sure that a rule names either its files, or the template that they are made from."""
        keys = self.document.places.keys
        if "path" not in table and "template" not in table:
            self.problems.add("C406", "`path` or `template` is missing in [[attach]]", place=keys.get(at))
        if "template" in table:
            for key in ("path", "base", "missing", "shared"):
                if key in table:
                    message = f"`{at}.{key}` is for a file that exists, and `template` makes a new one"
                    hint = "write two rules: one with path, one with template"
                    self.problems.add("C405", message, hint, keys.get(f"{at}.{key}"))
        if "password" in table and not str(table.get("template")).lower().endswith((".html", ".htm", ".typ")):
            message = f"`{at}.password` is for a PDF that is made from a template"
            self.problems.add("C405", message, place=keys.get(f"{at}.password"))

    def _read_key(
        self, section: str, key: str, value: object, name: str, into: _Values | None = None
    ) -> None:
        option = CAMPAIGN[section].get(key)
        if option is None:
            report_unknown_key(self.problems, UnknownKey(name, value, CAMPAIGN, PLANNED, self.document))
            return
        self.given.add(name)
        place = self.document.places
        try:
            found = option.type.read(value)
        except ValidationError as error:
            for issue in error.issues:
                at = name + issue.path
                where = place.values.get(at) or place.keys.get(at) or place.values.get(name)
                self.problems.add(issue.code, f"`{at}` {issue.message}", issue.hint, where)
            return
        target = self.sections[section] if into is None else into
        target[key] = _inside(found, self.document.folder)

    def _report(self, name: str, message: str, hint: str | None) -> None:
        self.problems.add("C404", f"`{name}` {message}", hint, self.document.places.keys.get(name))

    # --- overrides -----------------------------------------------------------------------------

    def override(self, overrides: Overrides) -> None:
        self.typed = overrides.typed
        for name, text, label in _from_environment(overrides.environ, self.problems):
            self._set(name, text, label, typed=True)
        for setting in overrides.settings:
            name, equals, text = setting.partition("=")
            if not equals or not name.strip():
                self.problems.add(
                    "C408", f"--set {name.strip()} has no value", "write --set section.key=value"
                )
                continue
            self._set(name.strip(), text, f"--set {name.strip()}", typed=True)
        for name, value in overrides.options.items():
            if value is not None:
                self._set(name, value, _flag(name) if self.typed else name, typed=False)

    def _set(self, name: str, value: object, label: str, *, typed: bool) -> None:
        section, key, entry = _split(name)
        if not typed and name == _ATTACH.key:
            self._attach(value, label)
            return
        option = CAMPAIGN[section].get(key)
        if option and section == "attach":
            hint = f"change [[attach]] in the file, or give {'--attach FILE' if self.typed else '`attach`'}"
            self.problems.add("C408", f"`{label}` cannot be set from outside", hint)
            return
        if option is None or (entry and option.type.entries is None):
            report_unknown_key(self.problems, UnknownKey(name, value, CAMPAIGN, PLANNED, label=label))
            return
        self.given.add(option.name)
        target = self.sections[section]
        try:
            found = _read_typed(option, entry, str(value)) if typed else option.type.read(value)
            if option.type.entries:
                # Entries are added to those of the file, and may contradict them (X-A beside x-a).
                found = option.type.read({**target.get(key, {}), **found})
        except ValidationError as error:
            self._report_issues(error, label, entry)
            return
        target[key] = _inside(found, self.document.folder if typed else Path())
        if not entry:
            self.overridden[option.name] = Place(
                path=label, line=1, source=next(iter(str(value).splitlines()), "")
            )

    def _report_issues(self, error: ValidationError, label: str, entry: str = "") -> None:
        for issue in error.issues:
            path = "" if entry else issue.path  # the label names the entry already
            self.problems.add(issue.code, f"`{label}{path}` {issue.message}", issue.hint)

    def _attach(self, value: object, label: str) -> None:
        try:
            texts: tuple[str, ...] = _ATTACH.type.read(value)
        except ValidationError as error:
            self._report_issues(error, label)
            return
        self.rules = []
        for text in texts:
            folder = Path(text).parent
            whole_path = "{" in str(folder)
            self.rules.append(
                {"path": text, "base": Path()} if whole_path else {"path": Path(text).name, "base": folder}
            )

    # --- the end ---------------------------------------------------------------------------------

    def finish(self) -> CampaignFile:
        self._report_missing()
        self.problems.raise_if_any()
        top, document = self.sections[""], self.document
        if self.sections["data"].get("group_by"):  # groups are identified by what they were grouped by
            self.sections["data"].setdefault("duplicates", "allow")
        data = DataOptions(**fields_of(self.sections["data"]))
        name = top.pop("name", "") or document.default_name or data.source.stem
        return CampaignFile(
            path=document.path,
            folder=document.folder,
            name=name,
            **fields_of(top),
            data=data,
            message=MessageOptions(**fields_of(self.sections["message"])),
            attach=tuple(
                AttachOptions(**{"base": document.folder, **fields_of(rule)}) for rule in self.rules
            ),
            send=SendOptions(**fields_of(self.sections["send"])),
            check=CheckOptions(**fields_of(self.sections["check"])),
            places={**document.places.values, **self.overridden},
            document=document,
        )

    def _hint(self, key: str, flag: str, name: str) -> str:
        """Return how a missing option can be given."""
        return f"write {key}, or give {flag if self.typed else f'`{name}`'}"

    def _report_missing(self) -> None:
        place = self.document.top
        data, top = self.sections["data"], self.sections[""]
        if data.get("duplicates") == "allow" and not {"key", "group_by"} & data.keys():
            hint = "without a key the address identifies a row: name the column that does, data.key"
            where = self.document.places.values.get("data.duplicates")
            self.problems.add("C405", '`data.duplicates` = "allow" needs a key', hint, where)
        source = data.get("source")
        if source is not None and source.name == "-" and not (top.get("name") or self.document.default_name):
            hint = self._hint('name = "spring"', "--name spring", "name")
            self.problems.add("C406", "no name: a list from standard input gives the campaign none", hint)
        if "data.source" not in self.given:
            hint = self._hint('source = "people.csv" under [data]', "--list people.csv", "data.source")
            self.problems.add("C406", "no list: `data.source` is missing", hint, place)
        event = self.sections["message"].get("calendar", {})
        for key in ("summary", "start") if event else ():
            if key not in event:
                message = f"`message.calendar` has no `{key}`"
                self.problems.add("C406", message, place=self.document.places.keys.get("message.calendar"))
        if "message.subject" not in self.given:
            hint = self._hint('subject = "..." under [message]', '--subject "..."', "message.subject")
            self.problems.add("C406", "no subject: `message.subject` is missing", hint, place)
        self._refuse_two_unsubscribe_headers()
        if self.sections["message"].get("text") == AUTO and "message.html" not in self.given:
            hint = self._hint('html = "body.html" under [message]', "--html", "message.html")
            self.problems.add("C406", "no body: `message.text` is to be made from HTML", hint, place)
        if not self.given & {"message.text", "message.html"}:
            hint = self._hint(
                'text = "body.txt" or html = "body.html" under [message]', "--text or --html", "message.text"
            )
            self.problems.add("C406", "no body: `message.text` and `message.html` are missing", hint, place)

    def _refuse_two_unsubscribe_headers(self) -> None:
        message = self.sections["message"]
        for name in message.get("headers", {}) if "unsubscribe" in message else ():
            if name.lower().startswith("list-unsubscribe"):
                at = f"message.headers.{name}"
                hint = "remove one of them: `message.unsubscribe` adds both headers"
                where = self.document.places.values.get(at)
                self.problems.add(
                    "C510", f"`{at}` and `message.unsubscribe` set the same header", hint, where
                )


def _build(document: Document, overrides: Overrides) -> CampaignFile:
    builder = _Builder(document)
    builder.read_file()
    builder.override(overrides)
    return builder.finish()


def _inside(value: object, folder: Path) -> object:
    """Make every path in *value* relative to *folder*."""
    if isinstance(value, Path):
        # "~$list.xlsx" is a file like any other.
        return folder / (value.expanduser() if value.parts[:1] == ("~",) else value)
    if isinstance(value, tuple):
        return tuple(_inside(item, folder) for item in value)
    return value


def _split(name: str) -> tuple[str, str, str]:
    """Cut an option's name into section, key and entry: ``message.headers.X-A``, ``vars.year``."""
    first, _, rest = name.partition(".")
    if first and first in CAMPAIGN:
        key, _, entry = rest.partition(".")
        return first, key, entry
    return "", first, rest


def _flag(name: str) -> str:
    """Return an option's flag for messages."""
    section, key, _ = _split(name)
    option = _ATTACH if name == _ATTACH.key else CAMPAIGN[section].get(key)
    return option.long_flag if option else name


def _read_typed(option: Option, entry: str, text: str) -> Any:
    """Read what was typed for an option, or for one *entry* of its table."""
    if not entry or option.type.entries is None:
        return read_typed(option.type, text)
    return option.type.read({entry: read_typed(option.type.entries, text)})


def _from_environment(environ: Mapping[str, str], problems: TomlProblems) -> Iterator[tuple[str, str, str]]:
    """Yield name, text and variable of each value that the environment sets."""
    known = {
        variable: option.name
        for options in CAMPAIGN.values()
        for option in options.values()
        for variable in option.variables
    }
    sections = tuple(f"MAILMERGE_{section}_".upper() for section in CAMPAIGN if section not in {"", "attach"})
    for variable in sorted(environ):
        if variable in known and environ[variable]:
            yield known[variable], environ[variable], variable
        elif variable.startswith(sections) and variable not in known:
            problems.add_unknown_variable(variable, known)
