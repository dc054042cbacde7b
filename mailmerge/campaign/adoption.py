"""Takes over a design of another program or a draft of a mail program, as the templates of a new campaign."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from msgspec import Struct, field

from mailmerge.designs import MESSAGE_SUFFIXES as DRAFTS
from mailmerge.designs.conversion import convert
from mailmerge.designs.draft import Draft, read_draft
from mailmerge.designs.names import ListColumns
from mailmerge.designs.placeholders import is_html
from mailmerge.errors import CampaignFileError
from mailmerge.folders import read_plain
from mailmerge.message.attachments import FileStore, clean_name
from mailmerge.message.file_search import FileProblem
from mailmerge.message.inline import InlineImages
from mailmerge.text import plural, quoted

if TYPE_CHECKING:
    from mailmerge.model import Columns

LARGEST: Final = 50 << 20
"""Most octets of a file that a campaign is made from."""
_TEXTS: Final = frozenset({".html", ".htm", ".xhtml", ".txt", ".md", ".markdown", ".mjml", ".text"})
_ELSEWHERE: Final = {
    ".msg": "open it in Outlook and save it as .eml, or drag it into the Drafts of another mail program",
    ".oft": "open it in Outlook and save it as .eml, or as HTML",
    ".doc": "in Word, save it as .docx",
    ".odt": "in LibreOffice, save it as HTML",
    ".rtf": "save it as HTML",
    ".pages": "copy it into a message, and save that as .eml",
    ".pdf": "a PDF cannot be a body: attach it, or start from the HTML that it was made of",
    ".zip": "unpack it, and name the .html in it",
}
LETTER: Final = ".docx"
_CHARSET: Final = re.compile(rb"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_IN_PATTERN: Final = re.compile(r"[\[\]{}*?]+")


class Adopted(Struct):
    """What a campaign gets from a design or draft."""

    source: str
    """The file as the user named it."""
    bodies: dict[str, str] = field(default_factory=dict)
    """Which option of ``[message]`` names which file."""
    files: dict[str, bytes] = field(default_factory=dict)
    """The contents of all files by their paths in the campaign's folder."""
    attachments: list[tuple[str, str]] = field(default_factory=list)
    """Path and name of each file that every message gets."""
    subject: str = ""
    sender: str = ""
    reply_to: str = ""
    unsubscribes: bool = False
    mapped: dict[str, str] = field(default_factory=dict)
    left: list[tuple[str, str, int]] = field(default_factory=list)
    """File, placeholder and line of each placeholder without a known column."""
    mended: int = 0
    """How many template tags were joined."""
    notes: list[str] = field(default_factory=list)


def adopted(path: Path, columns: Columns) -> Adopted:
    """Take over a file for a list of these *columns*.

    Raises:
        CampaignFileError: it cannot be read, or is of a kind that cannot become a template.

    """
    suffix = path.suffix.lower()
    if suffix in _ELSEWHERE:
        raise CampaignFileError(f"{path} cannot be used as a template", code="T131", hint=_ELSEWHERE[suffix])
    try:
        data = read_plain(path, LARGEST)
    except OSError as error:
        raise CampaignFileError(
            f"cannot read {path}: {(error.strerror or str(error)).lower()}", code="T130"
        ) from None
    names = ListColumns(columns)
    found = Adopted(str(path))
    if suffix == LETTER:
        _from_letter(data, names, found)
    elif suffix in DRAFTS or (suffix not in _TEXTS and _looks_like_a_message(data)):
        draft = read_draft(data)
        if draft is None or (draft.text is None and draft.html is None):
            raise CampaignFileError(
                f"{path} does not contain a message with text",
                code="T131",
                hint="save the draft as .eml in your mail program, or name an .html file",
            )
        _from_draft(draft, names, found)
    else:
        _from_design(path, data, names, found)
    return found


def _looks_like_a_message(data: bytes) -> bool:
    return re.match(rb"(?:[A-Za-z][A-Za-z0-9-]{1,60}:[^\n]*\n(?:[ \t][^\n]*\n)*){2,}\r?\n", data) is not None


# --- drafts ------------------------------------------------------------------------------------------------


def _from_draft(draft: Draft, names: ListColumns, found: Adopted) -> None:
    found.subject = _plain(draft.subject, names, found, "subject")
    found.sender, found.reply_to = draft.sender, draft.reply_to
    found.notes += draft.notes
    if draft.text is not None:
        _add_body(draft.text, "text", "body.txt", names, found)
    if draft.html is not None:
        _add_body(draft.html, "html", "body.html", names, found)
    for path, name in draft.attachments:
        shown = name if "{{" in name else clean_name(name)  # as it is sent: without folders
        found.attachments.append((_IN_PATTERN.sub("-", path), shown))
    found.files |= {_IN_PATTERN.sub("-", path): content for path, content in draft.files.items()}


def _from_letter(data: bytes, names: ListColumns, found: Adopted) -> None:
    """Take over a Word letter, as Markdown."""
    from mailmerge.convert.word import read_letter

    letter = read_letter(data, found.source, names)
    found.mapped |= letter.mapped
    found.subject = _plain(letter.subject, names, found, "subject")
    _add_body(letter.markdown, "text", "body.md", names, found)
    found.files |= letter.pictures
    for name in letter.unknown:
        if not any(written == f"«{name}»" for _, written, _ in found.left):
            found.left.append(("body.md", f"«{name}»", 1))
    found.notes += [f"not taken over: {what}" for what in letter.left]


# --- designs -----------------------------------------------------------------------------------------------


def _from_design(path: Path, data: bytes, names: ListColumns, found: Adopted) -> None:
    text = _decoded(data, path)
    suffix = path.suffix.lower()
    if suffix == ".mjml":
        _add_body(text, "html", "body.mjml", names, found)
    elif suffix in {".md", ".markdown"}:
        _add_body(text, "text", "body.md", names, found)
    elif suffix in {".html", ".htm", ".xhtml"} or is_html(text):
        _add_body(text, "html", "body.html", names, found)
    else:
        _add_body(text, "text", "body.txt", names, found)
    for name, content in list(found.files.items()):
        pictures = _Pictures(path.parent, found)
        found.files[name] = pictures.rewrite(content.decode()).encode()


def _decoded(data: bytes, path: Path) -> str:
    """Read a design in the encoding that it names; Word saves in Windows' own."""
    named = _CHARSET.search(data[:4096])
    bom = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}.get(data[:2])
    for codec in (bom, "utf-8-sig", named[1].decode("ascii", "replace") if named else None, "cp1252"):
        try:
            if codec:
                return data.decode(codec).replace("\r\n", "\n").replace("\r", "\n")
        except (LookupError, UnicodeDecodeError):
            continue
    raise CampaignFileError(
        f"the encoding of {path} is not known", code="T130", hint="save it as UTF-8 in your editor"
    )


class _Pictures(InlineImages):
    """Finds the pictures of a design next to it, to be copied with it.

    Only files in the design's folder or below are used, and only images: a design may come from anybody.
    """

    def __init__(self, base: Path, found: Adopted) -> None:
        self._looked = FileStore()
        super().__init__(base, "", self._looked)
        self._taken = found

    def _reference(self, source: str, images: dict[str, str]) -> str | None:
        del images
        try:
            return self._copied(source)
        except (FileProblem, OSError) as problem:
            reason = problem.message if isinstance(problem, FileProblem) else problem.strerror
            self._taken.notes.append(f"a picture is not taken over: {reason}")
            return None

    def _copied(self, source: str) -> str | None:
        local = self._local_path(source)
        if local is None or "{{" in local:
            return None
        path = self._find(local)
        self._looked.image(path, "picture")
        name = os.path.relpath(path, os.path.realpath(self._base)).replace(os.sep, "/")
        self._taken.files[name] = read_plain(Path(path), LARGEST)
        plain = "\\" not in local and not Path(local).is_absolute() and local == source.strip()
        return None if plain else quote(name)


# --- both --------------------------------------------------------------------------------------------------


def _add_body(source: str, option: str, file: str, names: ListColumns, found: Adopted) -> None:
    found.files[file] = _plain(source, names, found, file).encode()
    found.bodies[option] = file


def _plain(source: str, names: ListColumns, found: Adopted, where: str) -> str:
    made = convert(source, names)
    found.mapped |= made.mapped
    found.left += [(where, written, line) for written, line in made.left.items()]
    found.unsubscribes = found.unsubscribes or made.unsubscribes
    found.mended += made.mended
    if made.protected:
        found.notes.append(f"braces of style sheets are protected in {where}: {{% raw %}} ... {{% endraw %}}")
    return made.text


def is_draft(path: Path) -> bool:
    """Return whether a file is named like a message, which has its own sender and subject."""
    return path.suffix.lower() in DRAFTS


def is_design(text: str) -> bool:
    """Return whether ``--from`` names a file, not a sender."""
    path = Path(text)
    known = path.suffix.lower() in _TEXTS | DRAFTS | {LETTER, *_ELSEWHERE} and not text.rstrip().endswith(">")
    return known or "@" not in text or path.is_file()


def described(found: Adopted) -> list[str]:
    """Return line by line what was taken over, and what was not."""
    lines = []
    if found.mapped:
        pairs = ", ".join(f"{written} -> {code}" for written, code in found.mapped.items())
        lines.append(f"Placeholders of {found.source} are columns now: {pairs}")
    if found.mended:
        lines.append(f"Repaired: {plural(found.mended, 'template tag')} that the editor had changed")
    lines += [f"Unknown: {quoted(written)} in {where}:{line}" for where, written, line in found.left]
    return lines + [note[:1].upper() + note[1:] for note in found.notes]
