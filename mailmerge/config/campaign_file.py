"""Read ``campaign.toml`` and what options, ``--set`` and the environment put over it into frozen values.

All problems are found together and raised as one `CampaignFileError`.

Order: option, then ``--set``, then ``MAILMERGE_SECTION_KEY``, then the file. Paths in the file, ``--set`` and
the environment are relative to the campaign's folder; paths in options are relative to the working directory,
as the shell completes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct, field

from mailmerge.config.campaign_schema import NOT_YET, OPTIONS, SCHEMA
from mailmerge.config.toml_document import Document, Problems, read_document, tell_unknown
from mailmerge.config.validation import FILLED_TEXT, RefusalError, describe, one_or_more, read_typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mailmerge.model import Place, Rate, Value

FILE_NAME: Final = "campaign.toml"

# --- the values ---------------------------------------------------------------------------------------


class DataOptions(Struct, frozen=True):
    """``[data]``: which list, and how its rows are read."""

    source: Path = Path()
    sheet: str | None = None
    key: str | None = None
    where: str | None = None
    duplicates: Literal["first", "error", "allow"] = "first"
    defaults: Mapping[str, str] = field(default_factory=dict)
    hidden: Literal["refuse", "skip", "send"] = "refuse"
    types: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    suppress: tuple[Path, ...] = ()


class MessageOptions(Struct, frozen=True):
    """``[message]``: templates of headers, text and HTML."""

    subject: str = ""
    from_: str | None = None
    """None: the account's own address."""
    to: tuple[str, ...] = ("{{ email }}",)
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: tuple[str, ...] = ()
    sender: str | None = None
    text: Path | str | None = None
    """A path names the template's file; a `str` (it had a line break) is the template itself."""
    html: Path | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    locale: str = "en"


class AttachOptions(Struct, frozen=True):
    """One ``[[attach]]``: the template of a path or glob inside *base*."""

    path: str
    base: Path
    name: str | None = None
    missing: Literal["error", "skip"] = "error"


class SendOptions(Struct, frozen=True):
    """``[send]``: pace and patience. None leaves it to the account."""

    rate: tuple[Rate, ...] = ()
    """All hold at once; none: only the account's own."""
    per_domain: tuple[Rate, ...] = ()
    """Hold for each recipient domain by itself."""
    jitter: float = 0.0
    """How much longer than even a pause between two messages may be, as a share of it."""
    retry: tuple[float, ...] = (60.0, 300.0, 900.0, 3600.0, 10800.0, 21600.0, 43200.0)
    """Seconds before each new try of a deferred row."""
    max_rejected: float = 0.05
    """Share of the last 200 rows that may be rejected before the run stops."""
    sessions: int | None = None
    pipeline: Literal["auto", "off", "overlap", "window"] | None = None


class CheckOptions(Struct, frozen=True):
    """``[check]``: codes of diagnostics that are not wanted."""

    ignore: frozenset[str] = frozenset()


class CampaignFile(Struct, frozen=True):
    """Everything that a campaign's author has said, checked."""

    path: Path | None
    """The file; None for a merge that was given by options only."""
    folder: Path
    """Where relative paths begin and the ledger lies."""
    name: str
    account: str | None
    vars: Mapping[str, Value]
    data: DataOptions
    message: MessageOptions
    attach: tuple[AttachOptions, ...]
    send: SendOptions
    check: CheckOptions
    places: Mapping[str, Place]
    """Where each value stands: ``message.subject``, ``message.to[1]``, ``attach[0].path``."""
    document: Document


class Overrides(Struct, frozen=True):
    """What is said outside of the file."""

    options: Mapping[str, object] = field(default_factory=dict)
    """By name (``data.source``), as values; None is as good as not there."""
    settings: Sequence[str] = ()
    """Arguments of ``--set``: ``section.key=value``."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Where ``MAILMERGE_SECTION_KEY`` is looked up."""


# --- the three ways in -----------------------------------------------------------------------------------


def load(path: Path, overrides: Overrides | None = None) -> CampaignFile:
    """Read a campaign from its folder or its ``.toml`` file.

    Raises:
        CampaignFileError: with every problem in it.

    """
    return _build(read_document(_locate(path)), overrides or Overrides())


def from_options(
    folder: Path,
    options: Mapping[str, object],
    *,
    settings: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> CampaignFile:
    """Make a campaign without a file; its name is the list's stem unless ``name`` is given.

    Raises:
        CampaignFileError: with every problem in it.

    """
    return _build(Document.without_file(folder), Overrides(options, settings, environ or {}))


def with_overrides(file: CampaignFile, overrides: Overrides) -> CampaignFile:
    """Give *file* with other values put over it, checked like the file itself.

    Raises:
        CampaignFileError: with every problem in it; each names the option it came from.

    """
    return _build(file.document, overrides)


def _locate(path: Path) -> Path:
    if path.suffix == ".toml" and not path.is_dir():
        return path
    inside = path / FILE_NAME
    if not path.is_dir():
        raise Problems.one("C407", f"no campaign folder {path}", hint=f"start one: mailmerge init {path}")
    if not inside.exists():
        others = sorted(other.name for other in path.glob("*.toml"))
        hint = f"did you mean {path / others[0]}?" if others else f"start one: mailmerge init {path}"
        raise Problems.one("C407", f"no {FILE_NAME} in {path}", hint=hint)
    return inside


# --- building ----------------------------------------------------------------------------------------------

_Values = dict[str, Any]


class _Builder:
    """Collects values section by section, and all that is wrong with them."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems = Problems()
        self.sections: dict[str, _Values] = {section: {} for section in SCHEMA if section != "attach"}
        self.rules: list[_Values] = []
        self.given: set[str] = set()
        """Names that were written, also with a value that was refused: they are not missing."""

    def read_file(self) -> None:
        self.document.report_passwords(self.problems, planned=NOT_YET)
        for name, value in self.document.tables.items():
            if name == "attach":
                self._read_rules(value)
            elif name in SCHEMA and name:
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
            self._report("attach", "must be written as [[attach]] with a `path` in it", None)
            return
        for number, table in enumerate(value):
            rule: _Values = {}
            at = f"attach[{number}]"
            for key, entry in table.items():
                self._read_key("attach", key, entry, f"{at}.{key}", into=rule)
            self.rules.append(rule)
            if "path" not in table:
                place = self.document.places.keys.get(at)
                self.problems.add("C406", "`path` is missing in [[attach]]", place=place)

    def _read_key(
        self, section: str, key: str, value: object, name: str, into: _Values | None = None
    ) -> None:
        kind = SCHEMA[section].get(key)
        if kind is None:
            tell_unknown(self.problems, self.document, name, value, schema=SCHEMA, not_yet=NOT_YET)
            return
        self.given.add(name)
        place = self.document.places
        try:
            found = kind.read(value)
        except RefusalError as refusal:
            for fault in refusal.faults:
                at = name + fault.at
                where = place.values.get(at) or place.keys.get(at) or place.values.get(name)
                self.problems.add(fault.code, f"`{at}` {fault.says}", fault.hint, where)
            return
        target = self.sections[section] if into is None else into
        target[key] = _inside(found, self.document.folder)

    def _report(self, name: str, says: str, hint: str | None) -> None:
        self.problems.add("C404", f"`{name}` {says}", hint, self.document.places.keys.get(name))

    # --- overrides -----------------------------------------------------------------------------

    def override(self, overrides: Overrides) -> None:
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
                self._set(name, value, OPTIONS.get(name, name), typed=False)

    def _set(self, name: str, value: object, label: str, *, typed: bool) -> None:
        section, key, entry = _split(name)
        if not typed and name == "attach":
            self._attach(value, label)
            return
        kind = SCHEMA[section].get(key)
        if kind and section == "attach":
            hint = "change [[attach]] in the file, or give --attach FILE"
            self.problems.add("C408", f"`{label}` cannot be set from outside", hint)
            return
        if kind is None or (entry and kind.entries is None):
            tell_unknown(self.problems, None, name, value, schema=SCHEMA, not_yet=NOT_YET, label=label)
            return
        self.given.add(f"{section}.{key}" if section else key)
        try:
            if typed and entry:
                assert kind.entries is not None
                found: object = kind.read({entry: read_typed(kind.entries, str(value))})
            else:
                found = read_typed(kind, str(value)) if typed else kind.read(value)
        except RefusalError as refusal:
            self._report_refusal(refusal, label, entry)
            return
        found = _inside(found, self.document.folder if typed else Path())
        target = self.sections[section]
        target[key] = {**target.get(key, {}), **found} if isinstance(found, dict) else found

    def _report_refusal(self, refusal: RefusalError, label: str, entry: str = "") -> None:
        for fault in refusal.faults:
            at = "" if entry else fault.at  # the label names the entry already
            self.problems.add(fault.code, f"`{label}{at}` {fault.says}", fault.hint)

    def _attach(self, value: object, label: str) -> None:
        try:
            texts = one_or_more(FILLED_TEXT).read(value)
        except RefusalError as refusal:
            self._report_refusal(refusal, label)
            return
        assert isinstance(texts, tuple)
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
        top, message = self.sections[""], self.sections["message"]
        if "from" in message:
            message["from_"] = message.pop("from")
        data = DataOptions(**self.sections["data"])
        document = self.document
        return CampaignFile(
            path=document.path,
            folder=document.folder,
            name=top.get("name") or document.default_name or data.source.stem,
            account=top.get("account"),
            vars=top.get("vars", {}),
            data=data,
            message=MessageOptions(**message),
            attach=tuple(AttachOptions(**{"base": document.folder, **rule}) for rule in self.rules),
            send=SendOptions(**self.sections["send"]),
            check=CheckOptions(**self.sections["check"]),
            places=document.places.values,
            document=document,
        )

    def _report_missing(self) -> None:
        place = self.document.top
        data = self.sections["data"]
        if data.get("duplicates") == "allow" and "key" not in data:
            hint = "without a key the address is what tells rows apart: name the column that does, data.key"
            where = self.document.places.values.get("data.duplicates")
            self.problems.add("C405", '`data.duplicates` = "allow" needs a key', hint, where)
        if "data.source" not in self.given:
            hint = 'write source = "people.csv" under [data], or give --list people.csv'
            self.problems.add("C406", "no list: `data.source` is missing", hint, place)
        if "message.subject" not in self.given:
            hint = 'write subject = "..." under [message], or give --subject "..."'
            self.problems.add("C406", "no subject: `message.subject` is missing", hint, place)
        if not self.given & {"message.text", "message.html"}:
            hint = 'write text = "body.txt" or html = "body.html" under [message], or give --text or --html'
            self.problems.add("C406", "no body: `message.text` and `message.html` are missing", hint, place)


def _build(document: Document, overrides: Overrides) -> CampaignFile:
    builder = _Builder(document)
    builder.read_file()
    builder.override(overrides)
    return builder.finish()


def _inside(value: object, folder: Path) -> object:
    """Put *folder* before every path in *value*."""
    if isinstance(value, Path):
        # "~$list.xlsx" is a file like any other.
        return folder / (value.expanduser() if value.parts[:1] == ("~",) else value)
    if isinstance(value, tuple):
        return tuple(_inside(item, folder) for item in value)
    return value


def _split(name: str) -> tuple[str, str, str]:
    """Cut an option's name into section, key and entry: ``message.headers.X-A``, ``vars.year``."""
    first, _, rest = name.partition(".")
    if first and first in SCHEMA:
        key, _, entry = rest.partition(".")
        return first, key, entry
    return "", first, rest


def _from_environment(environ: Mapping[str, str], problems: Problems) -> Iterator[tuple[str, str, str]]:
    """Give name, text and variable of each value that the environment sets."""
    prefix = "MAILMERGE_"
    known = {
        f"{prefix}{section}{'_' if section else ''}{key}".upper(): f"{section}.{key}" if section else key
        for section, keys in SCHEMA.items()
        for key, kind in keys.items()
        if section != "attach" and kind.entries is None
    }
    sections = tuple(f"{prefix}{section}_".upper() for section in SCHEMA if section and section != "attach")
    for variable in sorted(environ):
        if variable in known and environ[variable]:
            yield known[variable], environ[variable], variable
        elif variable.startswith(sections) and variable not in known:
            problems.add_unknown_variable(variable, known)
