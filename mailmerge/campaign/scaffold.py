"""Makes a campaign folder from a list's own columns and a stock template.

The stock templates are real files in ``templates/``, built from the pieces in ``templates/parts``; their own
placeholders are written ``<<name>>`` so that the campaign's Jinja2 code passes through unchanged.
"""

from __future__ import annotations

import os
import re
import stat
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import escape
from msgspec import Struct

from mailmerge.addresses import AddressError, parse_address_list
from mailmerge.campaign.adoption import adopted, described
from mailmerge.campaign.column_filters import ColumnShapes, printing
from mailmerge.campaign.outside import about_list
from mailmerge.config.campaign_file import refuse_file, refuse_list_name
from mailmerge.config.option_docs import SCHEMA_FILE, schema_text
from mailmerge.designs.conversion import TEMPLATE_CODE
from mailmerge.designs.names import expression, quoted_in_template
from mailmerge.errors import CampaignFileError
from mailmerge.files import create_file, write_file
from mailmerge.options import CAMPAIGN_FILE
from mailmerge.recipients.address_column import address_columns
from mailmerge.recipients.list_survey import typed_rows
from mailmerge.suggest import Invocation, suggested
from mailmerge.text import toml_value
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mailmerge.campaign.adoption import Adopted
    from mailmerge.campaign.column_filters import Printing
    from mailmerge.model import Columns
    from mailmerge.options import StockTemplate
    from mailmerge.recipients import RecipientList

_SAMPLE_ROWS = 50
_FIRST_NAMES = ("first_name", "firstname", "first", "given_name", "vorname", "prenom", "nombre", "称呼")
_FULL_NAMES = ("name", "full_name", "fullname", "contact", "姓名", "名前", "nom")
_ID_NAMES = re.compile(r"(?:id|no|nr|number|key)\Z|_(?:id|no|nr|number)\Z", re.IGNORECASE)
_WORDS = re.compile(r"\w(?:[\w ,.-]*\w)?")


class _Stock(Struct, frozen=True):
    """What is known about a stock template apart from its files."""

    line: str
    """What it is, in one line."""
    subject: str
    preheader: str = ""


_STOCK: Mapping[StockTemplate, _Stock] = {
    "letter": _Stock(
        "Markdown, as one person writes to another; the HTML is made from it",
        "A message for you",
    ),
    "newsletter": _Stock(
        "a picture, two stories, dates and short news; people can unsubscribe",
        "This month's letter",
        "The first story, two dates to keep, and one line to smile about.",
    ),
    "announcement": _Stock(
        "what changes, from when and why, with a box for what must not be missed",
        "What changes soon",
        "What changes, from when, and what it means for you.",
    ),
    "event": _Stock(
        "a picture, when and where, a button to say yes, the programme",
        "You are invited",
        "When, where, and how to tell us that you are coming.",
    ),
    "invoice": _Stock(
        "the amount and its details, with the PDF of each row attached",
        "Your invoice",
        "What it is for, how much it is, and until when it is due.",
    ),
    "plain": _Stock("a few lines of plain text, and nothing else", "A message for you"),
}
STOCK_TEMPLATES: Mapping[StockTemplate, str] = {kind: stock.line for kind, stock in _STOCK.items()}
"""What each stock template is, in one line."""


class _Wording(Struct, frozen=True):
    """What differs by language in what is made, apart from the templates."""

    greeting: str
    """How a letter begins; ``{}`` is the expression of the name."""
    unnamed: str
    """How it begins where the list has no names."""
    our_name: str
    our_address: str
    subject: str = ""
    """Instead of the stock template's own."""
    locale: str = "en"
    """That of the text, unless the columns are printed as their list writes numbers."""


_ENGLISH = _Wording(
    'Dear {{{{ {} or "friend" }}}}', "Hello", "Your organisation", "Your street 1, 12345 Your town"
)
_CHINESE = _Wording(
    '{{{{ {} or "朋友" }}}}，您好', "您好", "单位名称（待填）", "单位地址（待填）", "给您的一封信", "zh_CN"
)
_CHINESE_FOLDER = "zh"
"""The folder of templates/ with the stock templates that are written in Chinese, too."""
_KANA_OR_HANGUL = re.compile("[\u3041-\u30ff\uac00-\ud7af]")
_UNSUBSCRIBING: frozenset[StockTemplate] = frozenset({"newsletter", "announcement", "event"})
"""Those for many people, who can unsubscribe."""
_FIXED: Mapping[str, object] = {"unsubscribing": _UNSUBSCRIBING, "open": "{{", "close": "}}"}
"""More variables of stock templates, the same in every campaign."""
_FILLED = frozenset({".txt", ".html", ".md"})
"""Files of a stock template that are filled in; others are copied."""


class Scaffold(Struct, frozen=True):
    """What was made: the folder and the files in it."""

    folder: Path
    files: tuple[str, ...]
    source: str
    """The list, as campaign.toml names it."""
    rows: int
    headings: tuple[str, ...]
    read_as: str
    """How the list was read, in a few words."""
    address_column: str
    file_column: str = ""
    """The column that the rows' files are named after; empty: the rows have none."""
    adopted: tuple[str, ...] = ()
    """What was taken over from a design or draft, line by line."""
    warnings: tuple[str, ...] = ()
    """What its owner should know about the list's place."""


class Sending(Struct, frozen=True):
    """What is known about how the messages are sent."""

    account: str | None = None
    rules: tuple[Mapping[str, object], ...] = ()
    """What becomes ``[[attach]]``."""
    send: Mapping[str, object] = {}
    """What becomes ``[send]``."""


def templates_folder() -> Path:
    """Return where the stock templates are: inside the installed package, or next to it in a checkout."""
    inside = Path(__file__).parents[1] / "templates"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "templates"


def sample_list() -> Path:
    """Return the list that a campaign without one starts with."""
    return templates_folder() / "people.csv"


def make_campaign(
    folder: Path,
    recipients: RecipientList,
    *,
    kind: StockTemplate | Path = "letter",
    sender: str | None = None,
    subject: str | None = None,
    sending: Sending | None = None,
    reading: Mapping[str, object] | None = None,
    copy: bool = True,
) -> Scaffold:
    """Create *folder* with campaign.toml and templates for a list, which is copied if *copy* is true.

    *reading* are the options by which the list is read; they are written into ``[data]``. If *kind* is a
    design or a draft, its texts, pictures and attachments take the place of the stock template.

    Raises:
        CampaignFileError: the folder is a campaign, the list has no addresses, or the design cannot be used.

    """
    refuse_campaign(folder)
    sending = sending or Sending()
    stock: StockTemplate = "letter" if isinstance(kind, Path) else kind
    names, spelt = recipients.columns.names, _spelt(recipients.columns)
    rows, address, printed = _look_at(recipients, spelt)
    source, original = _placed(folder, recipients, copy=copy)
    taken = adopted(kind, recipients.columns) if isinstance(kind, Path) else None
    chosen, wording = _in_its_language(stock, () if taken else recipients.columns.headings)
    values: dict[str, object] = {
        **_columns(recipients, spelt, address, printed, wording),
        "kind": stock,
        "name": folder.resolve().name,
        "account": sending.account,
        "source": source,
        "original": original,
        "reading": {name: value for name, value in (reading or {}).items() if value is not None},
        **_ours(names, wording),
        **_header(stock, sender, subject or wording.subject, taken),
        "bodies": {path.suffix for path in (templates_folder() / chosen).glob("body.*")},
        "adopted": taken,
        "rules": sending.rules,
        "send": {"rate": "20/m", **sending.send},
        "id_column": spelt[_id_column(names, address)],
        **_FIXED,
    }
    contents = _contents(None if taken else chosen, values) | (taken.files if taken else {})
    files = _create(folder, recipients, contents, source if copy else "")
    file_column = str(values["id_column"]) if stock == "invoice" and not taken else ""
    return Scaffold(
        folder,
        files,
        source,
        rows,
        recipients.columns.headings,
        str(recipients.understanding),
        address,
        file_column=file_column,
        adopted=tuple(described(taken)) if taken else (),
        warnings=tuple(_warnings(recipients, address, folder, original)),
    )


def _warnings(recipients: RecipientList, address: str, folder: Path, original: str) -> Iterator[str]:
    """Say where the list is, and which columns are not in the draft.

    What is hidden in a sheet is rarely meant for readers.
    """
    yield from about_list(recipients.path, folder, Path(original) if original else None)
    columns, hidden = recipients.columns, recipients.hidden_columns - {address}
    pairs = zip(columns.names, columns.headings, strict=True)
    if hidden:
        listed = ", ".join(heading for name, heading in pairs if name in hidden)
        yield f"Hidden in the sheet, and not put into the draft: {listed} (templates can use them)"


def _in_its_language(stock: StockTemplate, headings: Iterable[str]) -> tuple[str, _Wording]:
    """Return the folder of a stock template in the language of a list's headings, and the words around it."""
    translated = f"{_CHINESE_FOLDER}/{stock}"
    if _is_chinese(headings) and (templates_folder() / translated).is_dir():
        return translated, _CHINESE
    return stock, _ENGLISH


def _is_chinese(headings: Iterable[str]) -> bool:
    """Return whether headings are written in simplified Chinese, which Japanese and traditional are not.

    Where every sign is one that Japanese has as well, ``姓名`` decides.
    """
    text = "".join(headings)
    signs = [sign for sign in text if "\u4e00" <= sign <= "\u9fff"]
    if not signs or _KANA_OR_HANGUL.search(text):
        return False
    only = [sign for sign in signs if not _encodes(sign, "shift_jis_2004")]
    return all(_encodes(sign, "gb2312") for sign in signs) and bool(only or "姓名" in text)


def _encodes(sign: str, encoding: str) -> bool:
    try:
        sign.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _id_column(names: Iterable[str], address: str) -> str:
    """Return the column that identifies rows by a number or code, else that of the addresses."""
    return next((name for name in names if _ID_NAMES.search(name) and name != address), address)


def refuse_campaign(folder: Path) -> None:
    """Refuse a folder that is already a campaign, a file, and the name of a list that does not exist.

    Raises:
        CampaignFileError: it is one.

    """
    if folder.is_file():
        refuse_file(folder, "folder")
    refuse_list_name(folder)
    if (folder / CAMPAIGN_FILE).exists():
        raise CampaignFileError(
            f"{folder} already contains a campaign",
            code="C450",
            hint=f"to continue it: {suggested(Invocation('', str(folder)), 'check')}; or choose another name",
        )


def _placed(folder: Path, recipients: RecipientList, *, copy: bool) -> tuple[str, str]:
    """Return how campaign.toml names the list, and which file it is a copy of; empty: it is not a copy."""
    name = Path(recipients.shown).name
    path, inside = recipients.path.resolve(), folder.resolve()
    if path == inside / name:
        return name, ""
    if not copy:
        return _relative(path, inside), ""
    own = path.is_relative_to(templates_folder().resolve()) or Path(recipients.shown) != recipients.path
    return name, "" if own else _relative(path, inside)


def _relative(path: Path, folder: Path) -> str:
    """Return a path relative to the folder; on another Windows drive only the full path is possible."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def set_account(folder: Path, name: str) -> None:
    """Write the account into the campaign's file; everything else in it stays unchanged."""
    path = folder / CAMPAIGN_FILE
    text = path.read_text("utf-8")
    line = f"account = {toml_value(name)}"
    head, mark, rest = text.partition("\n[")
    made, count = re.subn(r"(?m)^account[ \t]*=.*$", lambda _: line, head, count=1)
    if not count:
        made, count = re.subn(r"(?m)^# account = .*(?:\n +#.*)*", lambda _: line, head, count=1)
    if not count:
        made = f"{line}\n{head}"
    write_file(path, (made + mark + rest).encode())


def _header(
    kind: StockTemplate, sender: str | None, subject: str | None, taken: Adopted | None
) -> dict[str, str]:
    """Return sender and subject: as given, else as in a draft."""
    sender = sender or (taken.sender if taken else "") or "me@example.org"
    subject = subject or (taken.subject if taken else "") or _STOCK[kind].subject
    address = _address_of(sender)
    return {
        "sender": sender,
        "sender_address": address,
        "subject": subject,
        "preheader": "" if taken else _STOCK[kind].preheader,
        "unsubscribe": f"mailto:{address}?subject=unsubscribe",
    }


def _ours(names: Iterable[str], wording: _Wording) -> dict[str, object]:
    """Return how templates write the sender's name and address: usually as variables of campaign.toml."""
    variables = {"our_name", "our_address"}.isdisjoint(names)
    texts = {"our_name": wording.our_name, "our_address": wording.our_address}
    written = {name: f"{{{{ {name} }}}}" for name in texts} if variables else texts
    return {**written, "ours": texts if variables else {}}


def _address_of(sender: str) -> str:
    """Return the address where people can answer; of a sender that is a template, only the plain part."""
    try:
        return str(parse_address_list(sender)[0].address)
    except (AddressError, IndexError):
        return "me@example.org"


def _spelt(columns: Columns) -> dict[str, str]:
    """Return each column as templates write it."""
    pairs = zip(columns.names, columns.headings, strict=True)
    return {name: expression(name, heading) for name, heading in pairs}


def _columns(
    recipients: RecipientList,
    spelt: Mapping[str, str],
    address: str,
    printed: Printing,
    wording: _Wording,
) -> dict[str, object]:
    """Return whom the messages go to, how they begin, and what can be merged into them."""
    columns, hidden = recipients.columns, recipients.hidden_columns
    first = next((name for name in _FIRST_NAMES if name in spelt and name not in hidden), None)
    full = next((name for name in _FULL_NAMES if name in spelt and name not in hidden), None)
    named, greeting = spelt.get(full or first or ""), spelt.get(first or full or "")
    others = [
        (heading, printed.expressions[name])
        for heading, name in zip(columns.headings, columns.names, strict=True)
        if name != address and name not in hidden
    ]
    return {
        "to": f"{{{{ {named} }}}} <{{{{ {spelt[address]} }}}}>" if named else f"{{{{ {spelt[address]} }}}}",
        "greeting": wording.greeting.format(greeting) if greeting else wording.unnamed,
        "columns": others,
        "amount": printed.amount,
        "due": printed.due,
        "locale": wording.locale
        if not any("|" in expression for _, expression in others)
        else printed.locale,
    }


def _literal(heading: str) -> str:
    """Return a heading so that a template shows it unchanged: none of it is template code."""
    return f"{{{{ {quoted_in_template(heading)} }}}}" if TEMPLATE_CODE.search(heading) else heading


def _markdown_literal(heading: str) -> str:
    """Return a heading for a Markdown template: as a value, if it contains Markdown's special characters."""
    return heading if _WORDS.fullmatch(heading) else f"{{{{ {quoted_in_template(heading)} }}}}"


def _html_literal(heading: str) -> str:
    """Return a heading for an HTML template, which escapes its values by itself."""
    return _literal(heading) if TEMPLATE_CODE.search(heading) else str(escape(heading))


def _html_template(text: str) -> str:
    """Return a plain-text template as an HTML template: only what is not code needs escaping."""
    return "".join(
        part if at % 2 else str(escape(part)) for at, part in enumerate(re.split(r"(\{[{%].*?[%}]\})", text))
    )


def _create(
    folder: Path, recipients: RecipientList, contents: Mapping[str, bytes], copy: str
) -> tuple[str, ...]:
    """Write the files, and the list as *copy* if that is set and does not exist yet; return their names."""
    there = not copy or (folder / copy).resolve() == recipients.path.resolve()
    refuse_overwriting(folder, [*contents, *([] if there else [copy])], hint="choose another folder name")
    if not there:
        kept = stat.S_IMODE(recipients.path.stat().st_mode) & 0o666
        create_file(folder / copy, recipients.path.read_bytes(), mode=kept | stat.S_IRUSR | stat.S_IWUSR)
    for file, content in contents.items():
        create_file(folder / file, content)
    return (*contents, *([copy] if copy else []))


def refuse_overwriting(folder: Path, names: Iterable[str], *, hint: str) -> None:
    """Refuse to overwrite a file, or a link.

    Raises:
        CampaignFileError: one of them exists.

    """
    for name in names:
        if os.path.lexists(folder / name):
            raise CampaignFileError(f"{folder / name} already exists", code="C450", hint=hint)


def _contents(kind: str | None, values: dict[str, object]) -> dict[str, bytes]:
    named = f"#:schema ./{SCHEMA_FILE}\n"
    contents = {CAMPAIGN_FILE: (named + _fill(CAMPAIGN_FILE, values)).encode()}
    for path in sorted((templates_folder() / kind).iterdir()) if kind else ():
        filled = path.suffix in _FILLED
        contents[path.name] = _fill(f"{kind}/{path.name}", values).encode() if filled else path.read_bytes()
    contents[SCHEMA_FILE] = schema_text().encode()
    return contents


def _fill(stock: str, values: dict[str, object]) -> str:
    import jinja2

    from mailmerge.render.layouts import AUTHOR_MARKS

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_folder()),
        **AUTHOR_MARKS,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  the output is a template, not a page
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["toml"] = toml_value
    environment.filters["literal"] = _literal
    environment.filters["markdown_literal"] = _markdown_literal
    environment.filters["html_literal"] = _html_literal
    environment.filters["html_template"] = _html_template
    return environment.get_template(stock).render(values)


def _look_at(recipients: RecipientList, spelt: Mapping[str, str]) -> tuple[int, str, Printing]:
    """Return how many rows there are, the column of their addresses, and how each column is printed."""
    sample: list[list[str]] = []
    rows = 0
    shapes = {name: ColumnShapes() for name in recipients.columns.names}
    for recipient in typed_rows(recipients, frozenset(shapes)):
        rows += 1
        if rows <= _SAMPLE_ROWS:
            sample.append([displayed(value) for value in recipient.values])
        for column, value in zip(shapes.values(), recipient.values, strict=True):
            column.add(value)
    return rows, _address_column(recipients, sample), printing(spelt, shapes)


def refuse_without_addresses(recipients: RecipientList) -> None:
    """Refuse a list to which no campaign can be made, before anything else is asked.

    Raises:
        CampaignFileError: no column contains addresses.

    """
    rows = islice(recipients, _SAMPLE_ROWS)
    _address_column(recipients, [[displayed(value) for value in recipient.values] for recipient in rows])


def _address_column(recipients: RecipientList, sample: list[list[str]]) -> str:
    found = address_columns(recipients.columns.headings, sample)
    if not found:
        raise CampaignFileError(
            f"no column of {recipients.shown} contains e-mail addresses",
            code="C451",
            hint=f"its columns are: {', '.join(recipients.columns.headings)}",
        )
    return recipients.columns.names[found[0].position]
