"""Word letters (``.docx``) as Markdown templates: merge fields become the columns of a list.

The format is ECMA-376, part 1: WordprocessingML in clause 17, its fields in 17.16. A field is either one
element (``fldSimple``) or runs between marks: its code, then its last result. Fields may be nested in the
codes of others, as in ``IF``. A letter may come from anybody: its parts are read up to a size limit, and none
may have a document type.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from lxml import etree
from msgspec import Struct, field

from mailmerge.designs.names import ListColumns, quoted_in_template, read_field
from mailmerge.errors import CampaignFileError
from mailmerge.render.tags import LIKE_TAG, literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml.etree import _Element as Element

_LARGEST: Final = 20 << 20
_MOST_PICTURES: Final = 30
_LONGEST: Final = 4000
"""Most characters of a field's code."""
_PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".gif"})
_W: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT: Final = b"http://purl.oclc.org/ooxml/wordprocessingml/main"
_R: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_DRAWN: Final = frozenset(
    {
        "{http://schemas.openxmlformats.org/markup-compatibility/2006}AlternateContent",
        f"{_W}pict",
        f"{_W}object",
    }
)
_AROUND: Final = frozenset(
    f"{_W}{name}" for name in ("ins", "moveTo", "smartTag", "sdt", "sdtContent", "customXml")
)
"""Elements around text that do not change it."""
_OFF: Final = frozenset({"0", "false", "off", "none"})
_FIELD: Final = re.compile(
    r'\s*MERGEFIELD\s+(?:"([^"]{1,80})"|([^\s\\"]{1,80}))(.*)', re.IGNORECASE | re.DOTALL
)
_IF: Final = re.compile(
    r'\s*IF\s+(?P<left>\{\{.*?\}\}|"[^"]*"|\S+)\s*(?P<sign><>|<=|>=|=|<|>)\s*(?P<right>\{\{.*?\}\}|"[^"]*"|\S+)'
    r'\s+(?:"(?P<then>[^"]*)"|(?P<word>[^\s"\\]+))(?:\s+"(?P<other>[^"]*)")?',
    re.IGNORECASE | re.DOTALL,
)
_LINK: Final = re.compile(r'\s*HYPERLINK\s+"([^"]+)"', re.IGNORECASE)
_QUOTES: Final = str.maketrans("“”„", '""' + '"')
_SIGNS: Final = {"=": "==", "<>": "!="}
_CASES: Final = {"upper": "|upper", "lower": "|lower", "firstcap": "|capitalize", "caps": "|title"}
_ESCAPED: Final = re.compile(
    r"[*`\\]|(?<!\w)_|_(?!\w)|~(?=~)|(?<=~)~|<(?=[A-Za-z/!])|&(?=#?\w{1,31};)|\](?=\()"
)
_LINE_START: Final = re.compile(
    r"^(?:(#{1,6}(?=\s)|>|[-+](?=\s)|[-=](?=[-= ]*$))|(\d{1,9})([.)])(?=\s))", re.MULTILINE
)
_TYPED: Final = re.compile(
    r"«([^\W_]\w{0,78}_\w{1,78})»"
    r"|\{\{ \"\{\" \}\}\{\s?([^{}%#|\"\n]{1,80}?)\s?\}\}|<\\<([^<>{}\"\n]{1,80})>>"
)
"""A field as text, in Markdown: as Word shows it (all that Google Docs keeps), or as people type it."""
_UNKNOWN: Final = {
    "ADDRESSBLOCK": "write the lines of the address yourself",
    "GREETINGLINE": "write the greeting yourself",
    "NEXT": "each row has its own message",
    "NEXTIF": "each row has its own message",
    "SKIPIF": "use `where`",
    "MERGEREC": "records have no number",
    "MERGESEQ": "records have no number",
    "ASK": "no questions are asked while messages are made",
    "FILLIN": "no questions are asked while messages are made",
    "SET": "put the value into `vars`",
}
"""Fields without a counterpart, and what to do instead."""


class Letter(Struct):
    """The content of a letter."""

    markdown: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)
    """Its images by their paths in the campaign's folder."""
    subject: str = ""
    """The subject of messages that was set in Word."""
    source: str = ""
    """The file name of the list with which it was merged."""
    sheet: str = ""
    mapped: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    """Names of fields without a column in the list."""
    left: list[str] = field(default_factory=list)


def read_letter(data: bytes, shown: str, columns: ListColumns) -> Letter:
    """Read a letter.

    Args:
        data: the file.
        shown: its name in messages.
        columns: the columns of the list.

    Raises:
        CampaignFileError: it is not a Word letter, or is damaged (C543).

    """
    package = _WordPackage(data, shown)
    letter = Letter()
    letter.markdown = _WordReader(package, letter, columns).read()
    return letter


def source_of(data: bytes, shown: str) -> Letter:
    """Read only which list a letter was merged with, and the subject of its messages.

    Raises:
        CampaignFileError: it is not a Word letter, or is damaged (C543).

    """
    letter = Letter()
    _read_settings(_WordPackage(data, shown), letter)
    return letter


class _WordPackage:
    """The parts of a letter."""

    def __init__(self, data: bytes, shown: str) -> None:
        self._shown = shown
        try:
            self._zip = zipfile.ZipFile(BytesIO(data))
        except (zipfile.BadZipFile, ValueError):
            raise self.damaged("is not a Word letter") from None
        if "word/document.xml" not in self._zip.namelist():
            raise self.damaged("is not a Word letter")

    def damaged(self, what: str) -> CampaignFileError:
        """Return the error for a file that is not a letter."""
        hint = "open it in Word or LibreOffice, and save it as .docx"
        return CampaignFileError(f"{self._shown} {what}", code="C543", hint=hint)

    def part(self, name: str) -> bytes | None:
        """Read a part; None: the part does not exist.

        Raises:
            CampaignFileError: the part is too large, or damaged.

        """
        try:
            if self._zip.getinfo(name).file_size > _LARGEST:
                raise self.damaged(f"has a part that is too large: {name}")
            return self._zip.read(name)
        except KeyError:
            return None
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError):
            raise self.damaged(f"is damaged: {name}") from None

    def tree(self, name: str) -> Element | None:
        """Read an XML part; None: the part does not exist.

        Raises:
            CampaignFileError: it is not well-formed, or has a document type.

        """
        content = self.part(name)
        if content is None:
            return None
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        try:
            root = etree.fromstring(content.replace(_STRICT, _W[1:-1].encode()), parser)
        except etree.XMLSyntaxError:
            raise self.damaged(f"is damaged: {name}") from None
        if getattr(root.getroottree().docinfo, "doctype", ""):
            raise self.damaged(f"declares a document type: {name}")
        return root

    def relations(self, name: str) -> dict[str, str]:
        """Return what a part refers to, by id."""
        folder, file = posixpath.split(name)
        root = self.tree(f"{folder}/_rels/{file}.rels")
        found = {} if root is None else {one.get("Id", ""): one.get("Target", "") for one in root}
        return {key: str(target) for key, target in found.items()}


def _read_settings(package: _WordPackage, letter: Letter) -> None:
    root = package.tree("word/settings.xml")
    merge = root.find(f"{_W}mailMerge") if root is not None else None
    if merge is None:
        return

    def value(name: str) -> str:
        found = merge.find(f"{_W}{name}")
        return str(found.get(f"{_W}val", "")) if found is not None else ""

    letter.subject = value("mailSubject")
    source = merge.find(f"{_W}dataSource")
    if source is not None:
        target = package.relations("word/settings.xml").get(str(source.get(f"{_R}id", "")), "")
        letter.source = re.split(r"[/\\]", unquote(target))[-1]
    query = value("query")
    if named := re.search(r"FROM\s+[`\"\[]?([^`\"\]]+?)\$?[`\"\]]?(?:\s|\Z)", query, re.IGNORECASE):
        letter.sheet = (
            named[1].strip("'$") if letter.source.lower().endswith((".xlsx", ".xls", ".xlsm")) else ""
        )
    if where := re.search(r"\bWHERE\b(.*)", query, re.IGNORECASE | re.DOTALL):
        letter.left.append(f"the filter of the list{where[1][:200]}: use `where`")


class _WordField(Struct):
    """A field that has begun."""

    code: str = ""
    in_result: bool = False
    result: list[_Piece] = field(default_factory=list)


class _Piece(Struct):
    """Text of one format; *code* is written unchanged."""

    text: str
    bold: bool = False
    italic: bool = False
    code: bool = False


class _WordReader:
    """One pass over the letter."""

    def __init__(self, package: _WordPackage, letter: Letter, columns: ListColumns) -> None:
        self._package, self._letter, self._columns = package, letter, columns
        self._relations = package.relations("word/document.xml")
        self._fields: list[_WordField] = []
        self._pieces: list[_Piece] = []
        self._styles = self._style_names()
        self._numbers = self._number_formats()

    def read(self) -> str:
        _read_settings(self._package, self._letter)
        root = self._package.tree("word/document.xml")
        body = root.find(f"{_W}body") if root is not None else None
        if body is None:
            raise self._package.damaged("has no text")
        blocks = [block for block in self._blocks(body) if block]
        for name in ("header1", "header2", "header3", "footer1", "footer2", "footer3"):
            part = self._package.tree(f"word/{name}.xml")
            if part is not None and any(text.strip() for text in part.itertext()):
                self._leave("headers and footers of pages: write the text into the letter")
        return _joined(blocks)

    def _leave(self, what: str) -> None:
        if what not in self._letter.left:
            self._letter.left.append(what)

    def _style_names(self) -> dict[str, tuple[str, Element | None]]:
        """Return the name of each style, by id, and its numbering: ids are translated, names are not."""
        root = self._package.tree("word/styles.xml")
        found: dict[str, tuple[str, Element | None]] = {}
        for style in () if root is None else root.iterfind(f"{_W}style"):
            name = _val(style.find(f"{_W}name")).lower()
            found[_val(style, "styleId")] = (name, _child(style.find(f"{_W}pPr"), "numPr"))
        return found

    def _number_formats(self) -> dict[tuple[str, str], str]:
        """Return the format of the items of each list and level."""
        root = self._package.tree("word/numbering.xml")
        if root is None:
            return {}
        levels = {
            (_val(one, "abstractNumId"), _val(level, "ilvl")): _val(level.find(f"{_W}numFmt"))
            for one in root.iterfind(f"{_W}abstractNum")
            for level in one.iterfind(f"{_W}lvl")
        }
        found: dict[tuple[str, str], str] = {}
        for num in root.iterfind(f"{_W}num"):
            abstract = _val(num.find(f"{_W}abstractNumId"))
            found |= {
                (_val(num, "numId"), level): kind for (one, level), kind in levels.items() if one == abstract
            }
        return found

    # --- blocks --------------------------------------------------------------------------------

    def _blocks(self, parent: Element) -> Iterator[tuple[str, str]]:
        """Yield kind and text of each block."""
        for child in parent:
            if child.tag == f"{_W}p":
                yield self._paragraph(child)
            elif child.tag == f"{_W}tbl":
                yield "table", self._table(child)
            elif child.tag in _AROUND:
                yield from self._blocks(child)

    def _paragraph(self, paragraph: Element) -> tuple[str, str]:
        self._pieces = []
        self._inline(paragraph)
        properties = paragraph.find(f"{_W}pPr")
        name, numbered = self._styles.get(_val(_child(properties, "pStyle")), ("", None))
        heading = re.fullmatch(r"heading ([1-6])", name)
        if name == "title" or heading:
            depth = int(heading[1]) if heading else 1
            text = self._written([_Piece(one.text, code=one.code) for one in self._pieces])
            return "heading", f"{'#' * depth} {text}" if text else ""
        text = self._written(self._pieces)
        numbered = numbered if (own := _child(properties, "numPr")) is None else own
        listed = re.match(r"list (bullet|number)(?: ([2-5]))?\Z", name)
        if (numbered is not None or listed) and text:
            level = _val(_child(numbered, "ilvl")) or (
                str(int(listed[2]) - 1) if listed and listed[2] else "0"
            )
            usual = "decimal" if listed and listed[1] == "number" else "bullet"
            kind = self._numbers.get((_val(_child(numbered, "numId")), level), usual)
            mark = "-" if kind in {"bullet", "none"} else "1."
            return "item", f"{'    ' * min(int(level) if level.isdigit() else 0, 6)}{mark} {text}"
        return "paragraph", _LINE_START.sub(_escaped_start, text)

    def _table(self, table: Element) -> str:
        rows = []
        for row in table.iterfind(f"{_W}tr"):
            cells = []
            for cell in row.iterfind(f"{_W}tc"):
                texts = (text.lstrip("#- ") for _, text in self._blocks(cell) if text)
                cells.append(" ".join(texts).replace("  \n", " ").replace("\n", " ").replace("|", r"\|"))
            rows.append(cells)
        width = max(map(len, rows), default=0)
        if width < 2:
            return "\n\n".join(cell for cells in rows for cell in cells if cell)
        lines = [f"| {' | '.join([*cells, *[''] * (width - len(cells))])} |" for cells in rows]
        return "\n".join([lines[0], f"|{' --- |' * width}", *lines[1:]])

    # --- the content of a paragraph ----------------------------------------------------------------

    def _inline(self, parent: Element) -> None:
        for child in parent:
            tag = child.tag
            if tag == f"{_W}r":
                self._run(child)
            elif tag == f"{_W}fldSimple":
                self._fields.append(_WordField(_val(child, "instr"), in_result=True))
                self._inline(child)
                self._end_field()
            elif tag == f"{_W}hyperlink":
                self._hyperlink(child)
            elif tag in _AROUND:
                self._inline(child)

    def _hyperlink(self, element: Element) -> None:
        target = self._relations.get(str(element.get(f"{_R}id", "")), "")
        before, self._pieces = self._pieces, []
        self._inline(element)
        inner, self._pieces = self._pieces, before
        self._emit(*_linked(inner, target))

    def _run(self, run: Element) -> None:
        properties = run.find(f"{_W}rPr")
        bold, italic = (_is_on(_child(properties, name)) for name in ("b", "i"))
        for child in run:
            if child.tag == f"{_W}fldChar":
                self._mark(_val(child, "fldCharType"))
            elif child.tag == f"{_W}instrText":
                if self._fields and not self._fields[-1].in_result:
                    self._fields[-1].code = f"{self._fields[-1].code}{child.text or ''}"[:_LONGEST]
            elif (text := _text_of(child)) is not None:
                self._emit(_Piece(text, bold, italic))
            else:
                self._other(child)

    def _other(self, child: Element) -> None:
        """Convert an image, and report other content that is not text."""
        if child.tag == f"{_W}drawing":
            self._picture(child)
        elif child.tag in _DRAWN:
            drawings = [one for one in child.iter(f"{_W}drawing") if one.find(f".//{_A}blip") is not None]
            for drawing in drawings[:1]:
                self._picture(drawing)
            if not drawings:
                self._leave("a drawing or text box: write its text into the letter")
        elif child.tag in {f"{_W}footnoteReference", f"{_W}endnoteReference"}:
            self._leave("footnotes: write them into the letter")

    def _mark(self, kind: str) -> None:
        if kind == "begin":
            self._fields.append(_WordField())
        elif kind == "separate" and self._fields:
            self._fields[-1].in_result = True
        elif kind == "end" and self._fields:
            self._end_field()

    def _emit(self, *pieces: _Piece) -> None:
        """Add text to the open field, or to the paragraph."""
        if not self._fields:
            self._pieces += pieces
        elif self._fields[-1].in_result:
            self._fields[-1].result += pieces
        else:
            code = "".join((self._fields[-1].code, *(piece.text for piece in pieces)))
            self._fields[-1].code = code[:_LONGEST]

    def _end_field(self) -> None:
        ended = self._fields.pop()
        look = next(iter(ended.result), _Piece(""))
        if code := self._merge_field(ended.code) or self._condition(ended.code):
            self._emit(_Piece(code, look.bold, look.italic, code=True))
        elif link := _LINK.match(ended.code):
            self._emit(*_linked(ended.result, link[1]))
        elif reason := _UNKNOWN.get((ended.code.split() or [""])[0].upper()):
            self._leave(f"the field {' '.join(ended.code.split())[:80]}: {reason}")
        else:
            self._emit(*ended.result)

    def _written(self, pieces: list[_Piece]) -> str:
        return _TYPED.sub(self._typed, _markdown(pieces))

    def _typed(self, found: re.Match[str]) -> str:
        name = next(filter(None, found.groups())).replace("\\", "")
        if found[1] or self._columns.written(read_field(name)) is not None:
            return self._merge_field(f'MERGEFIELD "{name}"')
        self._leave(
            f"the text {'{{' if found[2] else '<<'}{name}{'}}' if found[2] else '>>'}: no such column"
        )
        return found[0]

    # --- fields --------------------------------------------------------------------------------

    def _merge_field(self, code: str) -> str:
        found = _FIELD.match(code)
        if not found:
            return ""
        name, switches = found[1] or found[2], found[3]
        column = self._columns.written(read_field(name))
        if column is None and name[:2].upper() == "M_":  # Word's names for headings that begin with a digit
            column = self._columns.written(read_field(name[2:]))
        if column is None:
            if name not in self._letter.unknown:
                self._letter.unknown.append(name)
            return f"{{{{ row[{quoted_in_template(name)}] }}}}"  # which the check reports
        case = re.search(
            r"\\\*\s*(\w+)", re.sub(r"\\\*\s*(?:MERGE|CHAR)FORMAT", "", switches, flags=re.IGNORECASE)
        )
        printed = f"{{{{ {column}{_CASES.get(case[1].lower(), '') if case else ''} }}}}"
        self._letter.mapped[f"«{name}»"] = printed
        if format_ := re.search(r'\\[@#]\s*("[^"]*"|\S+)', switches):
            self._leave(f"the format {format_[1]} of «{name}»: use |date, |money or |number (docs/values.md)")
        around: dict[str, str] = dict(re.findall(r'\\([bf])\s*"([^"]*)"', switches, re.IGNORECASE))
        if around:
            before, after = (LIKE_TAG.sub("", around.get(kind, "")) for kind in "bf")
            return f"{{% if {column} %}}{before}{printed}{after}{{% endif %}}"
        return printed

    def _condition(self, code: str) -> str:
        code = code.translate(_QUOTES)
        found = _IF.match(code)
        if not found:
            return self._untranslated(code) if re.match(r"\s*IF\b", code, re.IGNORECASE) else ""
        sign = found["sign"]
        then, other = found["then"] if found["word"] is None else found["word"], found["other"]
        operands = [found[side] for side in ("left", "right")]
        if any(_has_other_code(text or "") for text in (then, other)) or not all(
            _is_column(text) or ("{{" not in text and (sign not in _SIGNS or not re.search(r"[*?]", text)))
            for text in operands
        ):
            return self._untranslated(code)
        left, right = map(_operand, operands)
        if sign not in _SIGNS:
            left, right = f"{left}|float", right.strip("'")
            if not re.fullmatch(r"-?\d+(?:\.\d+)?", right):
                right = f"{right}|float"
        end = f"{{% else %}}{other}" if other else ""
        return f"{{% if {left} {_SIGNS.get(sign, sign)} {right} %}}{then or ''}{end}{{% endif %}}"

    def _untranslated(self, code: str) -> str:
        """Replace a condition with an unknown column: the check reports it, and nothing is sent."""
        shown = " ".join(code.split())[:80]
        self._leave(f"the condition {shown}: write {{% if %}} yourself")
        named = re.sub(r"[\"'{}%#\\]", "", shown)
        return f"{{{{ row['{named}'] }}}}"

    def _picture(self, drawing: Element) -> None:
        for blip in drawing.iter(f"{_A}blip"):
            target = self._relations.get(str(blip.get(f"{_R}embed", "")), "")
            name = posixpath.basename(target)
            suffix = posixpath.splitext(name)[1].lower()
            content = self._package.part(posixpath.normpath(f"word/{target}")) if target else None
            if content is None or suffix not in _PICTURES or len(self._letter.pictures) >= _MOST_PICTURES:
                self._leave(f"the picture {name or 'in a link'}: put it into the folder as PNG or JPEG")
                continue
            path = f"images/{re.sub(r'[^A-Za-z0-9.-]+', '-', name)}"
            self._letter.pictures[path] = content
            described = next((str(one.get("descr", "")) for one in drawing.iter() if one.get("descr")), "")
            alt = re.sub(r"[\[\]{}\n\r]+", " ", described).strip()
            self._emit(_Piece(f"![{alt}]({path})", code=True))


def _operand(text: str) -> str:
    """Return an operand of a condition: a column, or a string."""
    bare = text.strip('"')
    if _is_column(text):
        return bare[2:-2].strip()
    # In single quotes, so a condition can be inside the quotes of another.
    return "'" + bare.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _is_column(operand: str) -> bool:
    return re.fullmatch(r'"?\{\{[^{}]*\}\}"?', operand) is not None


def _has_other_code(text: str) -> bool:
    ours = r"\{\{ [^{}%#]* \}\}|\{% (?:if|else|endif)[^{}%#]* ?%\}"
    return re.search(r"\{\{|\{%|\{#", re.sub(ours, "", text)) is not None


def _val(element: Element | None, name: str = "val") -> str:
    return "" if element is None else str(element.get(f"{_W}{name}", ""))


def _child(element: Element | None, name: str) -> Element | None:
    return None if element is None else element.find(f"{_W}{name}")


def _is_on(element: Element | None) -> bool:
    return element is not None and _val(element).lower() not in _OFF


def _text_of(element: Element) -> str | None:
    """Return what an element of a run shows; None: nothing."""
    tag = element.tag
    if tag == f"{_W}t":
        return element.text or ""
    if tag in {f"{_W}br", f"{_W}cr"}:
        return "" if _val(element, "type") in {"page", "column"} else "\n"
    return {f"{_W}tab": " ", f"{_W}noBreakHyphen": "-"}.get(str(tag))


def _linked(pieces: list[_Piece], target: str) -> list[_Piece]:
    if not re.match(r"(?:https?|mailto):", target, re.IGNORECASE) or re.search(r"[\s<>()]", target):
        return pieces
    return [_Piece("[", code=True), *pieces, _Piece(f"]({LIKE_TAG.sub('%7B', target)})", code=True)]


def _markdown(pieces: list[_Piece]) -> str:
    """Return a paragraph; bold and italic text is marked without the spaces around it."""
    made: list[str] = []
    at = 0
    while at < len(pieces):
        end = at + 1
        look = (pieces[at].bold, pieces[at].italic)
        while end < len(pieces) and (pieces[end].bold, pieces[end].italic) == look:
            end += 1
        text = "".join(one.text if one.code else _escaped(one.text) for one in pieces[at:end])
        mark = "**" * look[0] + "*" * look[1]
        inner = text.strip()
        if mark and inner:
            start = text.index(inner)
            text = f"{text[:start]}{mark}{inner}{mark[::-1]}{text[start + len(inner) :]}"
        made.append(text)
        at = end
    lines = (" ".join(line.split(" ")).strip() for line in "".join(made).strip().split("\n"))
    return "  \n".join(re.sub(" {2,}", " ", line) for line in lines)


def _escaped_start(found: re.Match[str]) -> str:
    """Escape what would begin a heading, a quotation or a list."""
    return f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}"


def _escaped(text: str) -> str:
    return literal(_ESCAPED.sub(lambda sign: f"\\{sign[0]}", text.replace("\u00a0", " ")))


def _joined(blocks: list[tuple[str, str]]) -> str:
    """Join blocks: the items of a list are on consecutive lines."""
    text, before = "", ""
    for kind, block in blocks:
        if block:
            text += ("\n" if kind == before == "item" else "\n\n" if text else "") + block
            before = kind
    return f"{text}\n"
