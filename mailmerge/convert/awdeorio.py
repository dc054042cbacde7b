"""Folders of awdeorio's mailmerge: a template, a database and a server configuration.

Facts: its README, https://github.com/awdeorio/mailmerge. A template is rendered with the cells of a row, and
the result is parsed as a message (`header_block`); ATTACHMENT headers name files relative to the template's
folder; ``Content-Type: text/markdown`` turns the body into HTML and keeps its line breaks.
"""

from __future__ import annotations

import binascii
import configparser
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from mailmerge.convert.header_block import (
    TAG,
    HeaderBlock,
    HeaderField,
    begins_with_headers,
    joined_conditions,
    read_header_block,
)
from mailmerge.convert.taken import Server, TakenOver, attachment_rule
from mailmerge.designs.names import expression
from mailmerge.errors import CampaignFileError, MailmergeError, TemplateError
from mailmerge.folders import read_plain
from mailmerge.model import Place
from mailmerge.option_types import MarkdownText
from mailmerge.options import CAMPAIGN_FILE
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TEMPLATE: Final = "mailmerge_template.txt"
DATABASE: Final = "mailmerge_database.csv"
SERVER: Final = "mailmerge_server.conf"
_SUFFIXES: Final = frozenset({"", ".txt", ".md", ".markdown", ".html", ".htm", ".j2", ".jinja", ".template"})
_LARGEST: Final = 1 << 20
_DEEPEST: Final = 10
"""How deeply the parts of a message may be nested."""
_MAILBOXES: Final = {"to": "to", "cc": "cc", "bcc": "bcc", "reply-to": "reply_to"}
_NOT_TAKEN: Final = {
    "date": "the date is the time of sending",
    "message-id": "each message gets its own",
    "mime-version": "",
    "content-transfer-encoding": "",
    "return-path": "it is the account's `return_path`",
}
"""Headers that we make, each with the reason why the template's is not used; empty: nothing to report."""
_SECURITY: Final[dict[str, dict[str, str]]] = {
    "ssl/tls": {"tls": "tls", "auth": "password"},
    "starttls": {"tls": "starttls", "auth": "password"},
    "plain": {"tls": "none", "auth": "password"},
    "xoauth": {"tls": "starttls", "auth": "token"},
    "never": {"tls": "none", "auth": "none"},
    "": {"tls": "none", "auth": "none"},
}
_INCLUDES: Final = re.compile(r"\{%[-+]?\s*(?:include|extends|import|from)\b")
_DEFINED: Final = re.compile(
    r"\{%[-+]?\s*(?:set|for|macro|import\s[^%]{0,200}?\bas)\s+([^=%]{0,200}?)(?:=|\bin\b|%)", re.DOTALL
)
"""Where a template defines such a name itself."""
_RAW: Final = re.compile(
    r"(\{%[-+]?\s*raw\s*[-+]?%\}(?:(?!\{%[-+]?\s*raw\b).)*?\{%[-+]?\s*endraw\s*[-+]?%\})", re.DOTALL
)
_CONDITION: Final = re.compile(r"\{%[-+]?\s*(if|elif|else|endif)\b\s*(.*?)\s*[-+]?%\}", re.DOTALL)
_AT_END: Final = re.compile(r"\s*(?:\{%[-+]?\s*(?:if|elif|else|endif)\b[^%]*%\}\s*)*(?:,|\Z)")
"""After a tag: where a mailbox ends."""
_NAMES: Final = re.compile(
    r"""\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|(?<![\w.|])(?<!\|\s)[^\W\d]\w*(?!\w|\s*=(?!=))"""
)
"""Names to look up, and quoted strings, which are not looked up."""
_SOURCES: Final = re.compile(
    r"""<img\b[^<>]*?\bsrc\s*=\s*(?:"([^"]*)"|'([^']*)')|!\[[^\[\]]{0,500}\]\(\s{0,9}<?([^)\s>]{0,500})""",
    re.IGNORECASE,
)


def find_template(path: Path) -> Path | None:
    """Find the template in a folder of awdeorio's mailmerge, or the path itself; None: it is neither."""
    if path.is_dir():
        inside = path / TEMPLATE
        return inside if inside.is_file() and not (path / CAMPAIGN_FILE).exists() else None
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        return None
    try:
        return path if begins_with_headers(_read(path)) else None
    except CampaignFileError:
        return None


def take_over(template: Path, server: Path | None = None, database: Path | None = None) -> TakenOver:
    """Read a template, and the two files next to it, as a campaign.

    Args:
        template: the template; the files next to it have the usual names.
        server: the server configuration; default: the one next to the template, if it exists.
        database: the list; default: the one next to the template.

    Raises:
        CampaignFileError: a file cannot be read, or contains something that cannot be translated.
        TemplateError: the template contains something that cannot be translated.

    """
    folder = template.parent
    taken = TakenOver(folder, template)
    named = template.name == TEMPLATE
    taken.tables = {"name": folder.resolve().name if named else template.stem, "data": {}, "message": {}}
    taken.tables["data"]["source"] = DATABASE
    taken.places["data.source"] = Place(str(template))
    names = _names_of(database or folder / DATABASE)
    block = read_header_block(renamed(_read(template), names), str(template))
    if _INCLUDES.search(block.body):  # included templates use the original names of the columns
        block.defines += "".join(f"{{% set {old} = {new} %}}" for old, new in names.items())
    _Translation(taken, block, str(template)).run()
    server = server or folder / SERVER
    if server.exists():
        taken.server, rate = read_server(server)
        if rate:
            taken.tables["send"] = {"rate": f"{rate}/m"}
    return taken


def _read(path: Path) -> str:
    try:
        return read_plain(path, _LARGEST).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise CampaignFileError(
            f"{path} is not UTF-8", code="C403", hint="save it as UTF-8", place=Place(str(path))
        ) from error
    except OSError as error:
        raise CampaignFileError(f"cannot read {path}: {error.strerror}", code="C407") from None


def _names_of(database: Path) -> dict[str, str]:
    """Return the columns whose names in our templates differ from their headings, with these names."""
    from mailmerge.recipients import open_list

    try:
        columns = open_list(database).columns
    except MailmergeError:  # the list's reader reports what is wrong with it
        return {}
    pairs = zip(columns.headings, columns.names, strict=True)
    return {
        heading: expression(name, heading)
        for heading, name in pairs
        if heading.isidentifier() and heading != expression(name, heading)
    }


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Replace names in the tags of a template, but not attributes, filters and strings."""
    own = {name for found in _DEFINED.finditer(text) for name in re.findall(r"\w+", found[1])}
    names = {old: new for old, new in names.items() if old not in own}
    if not names:
        return text
    pieces = _RAW.split(text)
    pieces[::2] = (TAG.sub(lambda tag: _renamed_tag(tag[0], names), piece) for piece in pieces[::2])
    return "".join(pieces)


def _renamed_tag(tag: str, names: Mapping[str, str]) -> str:
    if tag.startswith("{#"):
        return tag
    return _NAMES.sub(lambda found: names.get(found[0], found[0]), tag)


# --- the template ------------------------------------------------------------------------------------------


class _Translation:
    """The translation of one template into the sections of a campaign."""

    def __init__(self, taken: TakenOver, block: HeaderBlock, shown: str) -> None:
        self._taken, self._block, self._shown = taken, block, shown
        self._message: dict[str, Any] = taken.tables["message"]
        self._defined = re.findall(
            r"\{%[-+]?\s*(?:set\s+(\w+)|import\s[^%]{0,200}?\bas\s+(\w+)|from\s[^%]{0,200}?\bimport\s+(\w+))",
            block.defines,
        )

    def run(self) -> None:
        for key, name in (("from", "from_"), ("subject", "subject"), ("sender", "sender")):
            if texts := [self._text(header) for header in self._block.every(key)]:
                self._say(name.rstrip("_"), "".join(texts), self._block.every(key)[0].place)
        self._message.setdefault("subject", "")
        for name, key in _MAILBOXES.items():
            headers = self._block.every(name)
            values = [one for header in headers for one in self._mailboxes(header)]
            if values:
                self._say(key, values[0] if len(values) == 1 else values, headers[0].place)
        self._others()
        self._bodies(self._block, self._block.every("content-type"))
        self._attachments()

    def _say(self, key: str, value: object, place: Place) -> None:
        self._message[key] = value
        self._taken.places[f"message.{key}"] = place
        if isinstance(value, list):
            self._taken.places |= {f"message.{key}[{number}]": place for number in range(len(value))}

    def _text(self, header: HeaderField) -> str:
        text = f"{self._defines_for(header.value)}{header.value}"
        return f"{{% if {header.condition} %}}{text}{{% endif %}}" if header.condition else text

    def _defines_for(self, value: str) -> str:
        """Return the preceding definitions, if a value uses one of them."""
        words = set(re.findall(r"\w+", " ".join(TAG.findall(value))))
        names = {name for names in self._defined for name in names if name}
        return self._block.defines if words & names else ""

    def _mailboxes(self, header: HeaderField) -> Iterator[str]:
        """Yield the mailboxes of a header, split at commas of the template, never of a value."""
        if re.search(r"\{%[-+]?\s*for\b", header.value) and "," in _without_tags(header.value):
            raise self._refused("a list of addresses in a `for`", header)
        for one, own in _entries(header.value):
            name, address = _angle(one)
            before = self._defines_for(f"{one}{{{{ {own} }}}}")
            condition = " and ".join(filter(None, (header.condition, own)))
            if not before and not condition:
                yield one
            elif name is None and not before and _is_expression(one):
                yield f"{{{{ ({one[2:-2].strip(' -+')}) if {condition} else '' }}}}"
            else:
                inner = f"{before}{address}"
                inner = f"{{% if {condition} %}}{inner}{{% endif %}}" if condition else inner
                yield inner if name is None else f"{name} <{inner}>"

    def _others(self) -> None:
        own = {"from", "subject", "sender", "attachment", "content-type", *_MAILBOXES}
        more: dict[str, str] = {}
        for header in self._block.headers:
            if header.name in own:
                continue
            if header.name in _NOT_TAKEN:
                if reason := _NOT_TAKEN[header.name]:
                    self._taken.left.append(f"{header.written}: {reason}")
                continue
            written = next((name for name in more if name.lower() == header.name), header.written)
            more[written] = more.get(written, "") + self._text(header)
            self._taken.places[f"message.headers.{written}"] = header.place
        if more:
            self._message["headers"] = more

    # --- bodies --------------------------------------------------------------------------------

    def _bodies(self, block: HeaderBlock, types: list[HeaderField], depth: int = 0) -> None:
        header = types[-1] if types else None
        kind, boundary = _content_type(header.value if header else "text/plain")
        if "{" in kind:
            raise self._refused(f"a Content-Type that depends on the row: {quoted(kind)}", header)
        self._decode(block, header)
        if kind.startswith("multipart/") and boundary and depth < _DEEPEST:
            self._parts(block, boundary, depth + 1)
        elif kind == "text/html":
            self._body("html", block.body, block, "body.html")
        elif kind in {"text/markdown", "text/x-markdown"}:
            self._body("text", MarkdownText(_kept_lines(block.body)), block, "body.md")
        elif kind.startswith("text/"):
            self._body("text", block.body, block, "body.txt")
        else:
            raise self._refused(f"a body of the type {quoted(kind)}", header)

    def _decode(self, block: HeaderBlock, content_type: HeaderField | None) -> None:
        """Decode a body that was pasted as mail programs send it (RFC 2045, section 6); no tag is encoded.

        Raises:
            TemplateError: it cannot be decoded (C541).

        """
        encodings = block.every("content-transfer-encoding")
        encoding = encodings[-1].value.lower() if encodings else ""
        if encoding not in {"quoted-printable", "base64"}:
            return
        charset = re.search(r'charset\s*=\s*"?([\w.:-]+)', content_type.value if content_type else "")
        decode = binascii.a2b_qp if encoding == "quoted-printable" else binascii.a2b_base64
        at, pieces = 0, []
        try:
            for tag in [*TAG.finditer(block.body), None]:
                text = block.body[at : tag.start() if tag else None]
                pieces += [_decoded(decode(text.encode()), charset), tag[0] if tag else ""]
                at = tag.end() if tag else at
        except ValueError:
            raise self._refused(f"a body in {encoding} that cannot be decoded", encodings[-1]) from None
        block.body = "".join(pieces)

    def _parts(self, block: HeaderBlock, boundary: str, depth: int) -> None:
        """Read the parts of a message that was written manually."""
        marks = {f"--{boundary}", f"--{boundary}--"}
        lines = block.body.split("\n")
        cuts = [at for at, line in enumerate(lines) if line.strip() in marks]
        for begin, end in pairwise([*cuts, len(lines)]):
            text = "\n".join(lines[begin + 1 : end]).rstrip("\n")
            if lines[begin].strip().endswith("--") or not text.strip():
                continue
            number = block.body_line + begin + 1
            part = _part(text, self._shown, number)
            types = part.every("content-type")
            kind, inner = _content_type(types[-1].value if types else "text/plain")
            key = {"text/plain": "text", "text/html": "html"}.get(kind, "")
            if (kind.startswith("multipart/") and inner) or (key and key not in self._message):
                self._bodies(part, types, depth)
            else:
                self._taken.left.append(
                    f"a part of the type {kind} (line {number}): use ATTACHMENT or [[attach]]"
                )
        if not {"text", "html"} & self._message.keys():
            raise self._refused("a message whose parts are neither text nor HTML", None)

    def _body(self, key: str, text: str, block: HeaderBlock, file: str) -> None:
        made = type(text)(f"{self._block.defines}{text.rstrip()}\n")
        self._message[key] = made
        self._taken.bodies[key] = file
        first = text.split("\n", 1)[0] if not self._block.defines else None
        self._taken.places[f"message.{key}"] = Place(self._shown, block.body_line, 1, source=first)

    # --- attachments -----------------------------------------------------------------------------

    def _attachments(self) -> None:
        shown = "\n".join(str(self._message.get(key, "")) for key in ("html", "text"))
        pictures = {next(filter(None, found.groups()), "").strip() for found in _SOURCES.finditer(shown)}
        rules: list[dict[str, Any]] = []
        for header in self._block.every("attachment"):
            if not header.value:
                raise self._refused("an ATTACHMENT without a file", header)
            if header.value in pictures:
                self._taken.changed.append(
                    f"{header.value} is shown where the body refers to it, so it is not an attachment"
                )
                continue
            place = f"attach[{len(rules)}]"
            self._taken.places |= {f"{place}.{key}": header.place for key in ("path", "base")}
            rules.append(self._rule(header))
        if rules:
            self._taken.tables["attach"] = rules

    def _rule(self, header: HeaderField) -> dict[str, Any]:
        rule = attachment_rule(header.value, self._defines_for(header.value))
        if header.condition:
            rule |= {"path": f"{{% if {header.condition} %}}{rule['path']}{{% endif %}}", "missing": "skip"}
            rule["shared"] = True
            self._taken.changed.append(
                f"ATTACHMENT {header.value} is for some rows; rows without its file are sent without it"
            )
        return rule

    def _refused(self, what: str, header: HeaderField | None) -> TemplateError:
        return TemplateError(
            f"{what} cannot be translated",
            code="C541",
            hint="change it in the template, or write a campaign.toml (docs/coming-from.md)",
            place=header.place if header else Place(self._shown),
        )


def _decoded(content: bytes, charset: re.Match[str] | None) -> str:
    """Return decoded bytes as text; text that was never encoded is UTF-8, like its template."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        try:
            text = content.decode(charset[1] if charset else "utf-8")
        except LookupError as error:
            raise ValueError(str(error)) from None
    return text.replace("\r\n", "\n")


def _part(text: str, shown: str, number: int) -> HeaderBlock:
    """Split a part of a message: without any header, all of it is body."""
    if begins_with_headers(text) or re.match(r"content-[\w-]+\s*:", text, re.IGNORECASE):
        return read_header_block(text, shown, number)
    return HeaderBlock(body=text.lstrip("\n"), body_line=number + len(text) - len(text.lstrip("\n")))


def _content_type(value: str) -> tuple[str, str]:
    kind, *parameters = (part.strip() for part in value.split(";"))
    pairs = (parameter.partition("=") for parameter in parameters)
    found = {name.strip().lower(): text.strip().strip('"') for name, _, text in pairs}
    return kind.lower(), found.get("boundary", "")


def _cut(value: str) -> Iterator[str]:
    """Split a list of mailboxes at its commas, except in tags, quotes and angle brackets."""
    masked = _without_tags(value)
    masked = re.sub(r'"(?:\\.|[^"\\])*"|<[^<>]*>', lambda one: "\0" * len(one[0]), masked)
    at = 0
    for comma in [*(found.start() for found in re.finditer(",", masked)), len(value)]:
        if one := value[at:comma].strip():
            yield one
        at = comma + 1


def _entries(value: str) -> list[tuple[str, str]]:
    """Return the mailboxes of a header, each with its condition.

    Conditions within a mailbox remain within it: ``{% if title %}Dr {% endif %}Bo <bo@example.org>``.
    """
    pieces: list[tuple[str, str]] = [("", "")]
    conditions: list[list[str]] = []
    at = 0
    joined = False  # whether a mailbox continues after the tag
    for found in [*TAG.finditer(value), None]:
        more = value[at : found.start() if found else len(value)]
        text, condition = pieces[-1]
        pieces[-1] = (f"{text}{more}", condition)
        if found is None:
            break
        at = found.end()
        tag = _CONDITION.match(found[0])
        if tag is None or (tag[1] != "if" and not conditions):
            pieces[-1] = (f"{pieces[-1][0]}{found[0]}", condition)
            continue
        if tag[1] == "if":
            conditions.append([tag[2]])
        elif tag[1] == "endif":
            conditions.pop()
        else:
            conditions[-1].append(tag[2] or "true")
        if tag[1] in {"if", "endif"}:
            before = "".join(text for text, _ in pieces).rstrip()
            joined = joined or bool(before and before[-1] != "," and not _AT_END.match(value, at))
        pieces.append(("", joined_conditions(conditions)))
    if joined:
        return [(one, "") for one in _cut(value)]
    return [(one, condition) for text, condition in pieces for one in _cut(text)]


def _without_tags(value: str) -> str:
    return TAG.sub(lambda tag: "\0" * len(tag[0]), value)


def _angle(one: str) -> tuple[str | None, str]:
    masked = _without_tags(one)
    start = masked.rfind("<")
    return (one[:start].strip(), one[start + 1 : -1]) if start >= 0 and masked.endswith(">") else (None, one)


def _is_expression(one: str) -> bool:
    tag = TAG.fullmatch(one)
    return tag is not None and one.startswith("{{")


def _kept_lines(text: str) -> str:
    """Write the line breaks within paragraphs in a form that Markdown keeps."""
    lines, fence = text.split("\n"), ""
    for at, line in enumerate(lines):
        mark = re.match(r" {0,3}(```+|~~~+)", line)
        if mark and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else mark[1]
        follows = at + 1 < len(lines) and lines[at + 1].strip() and TAG.sub("", lines[at + 1]).strip()
        alone = not TAG.sub("", line).strip() and "{{" not in line
        if not (fence or mark or alone) and line.strip() and follows:
            lines[at] = f"{line.rstrip()}  "
    return "\n".join(lines)


# --- the server --------------------------------------------------------------------------------------------


def read_server(path: Path) -> tuple[Server, int]:
    """Read a server configuration.

    Returns:
        The server, and the limit of messages per minute; 0: no limit.

    Raises:
        CampaignFileError: it cannot be read (C540).

    """
    parser = configparser.RawConfigParser(inline_comment_prefixes=None)
    try:
        parser.read_string(_read(path), str(path))
        section = dict(parser.items("smtp_server"))
    except configparser.Error as error:
        raise _server_problem(path, f"cannot be read: {str(error).splitlines()[0]}") from None
    host, port = section.get("host", "").strip(), section.get("port", "").strip()
    if not host or not port:
        raise _server_problem(path, f"does not specify `{'port' if host else 'host'}`")
    security = section.get("security", "").strip().lower()
    if security not in _SECURITY:
        known = "SSL/TLS, STARTTLS, PLAIN, XOAUTH or Never"
        raise _server_problem(path, f"has an unknown `security`: {quoted(section['security'])}", known)
    values: dict[str, Any] = {"host": host, **_SECURITY[security]}
    values["port"] = _number(path, "port", port)
    if values["auth"] != "none":
        user = section.get("username", "").strip()
        if not user:
            raise _server_problem(path, f"has `security = {section['security']}`, but no `username`")
        values["user"] = user
    return Server(values, str(path)), _number(path, "ratelimit", section.get("ratelimit", "").strip() or "0")


def _number(path: Path, key: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", text):
        raise _server_problem(path, f"has a `{key}` that is not a number: {quoted(text)}")
    return int(text)


def _server_problem(path: Path, what: str, known: str = "") -> CampaignFileError:
    hint = (
        f"use {known}"
        if known
        else "it needs [smtp_server] with host, port, and security and username to sign in"
    )
    return CampaignFileError(f"{path} {what}", code="C540", hint=hint, place=Place(str(path)))
