"""Mailbox templates: ``name <address>``, or one expression that may contain a list.

The split into name and address happens in the template's text, before any value is known: whatever a cell
contains, it is one name or one address. Only an element that is exactly one expression, ``{{ email }}``,
reads its value as a list, and then every item must be a mailbox.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateSyntaxError, nodes

from mailmerge.addresses import Address, AddressError, Mailbox, parse_address_list
from mailmerge.lazy_re import lazy_re
from mailmerge.model import Diagnostic, Place, Severity
from mailmerge.render.failures import row_error
from mailmerge.text import HALF_A_CHARACTER, LONE_SURROGATE, quoted
from mailmerge.values import displayed

if TYPE_CHECKING:
    from mailmerge.errors import RowError
    from mailmerge.model import Recipient
    from mailmerge.render.compiler import Compiled, Compiler

_TAG = lazy_re(
    r"""\{\{(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^"'])*?\}\}|\{%(?:"(?:\\.|[^"\\])*"|[^"])*?%\}|\{#.*?#\}""",
    re.DOTALL,
)
_CONTROL = "[\x00-\x1f\x7f-\x9f]"
_RUN = lazy_re("[ \t\r\n\x85\u2028\u2029]{2,}|[\t\r\n\x85\u2028\u2029]")
_SEPARATORS = str.maketrans("\x85\u2028\u2029", "   ")


class MailboxTemplate:
    """One element of ``to``, ``cc``, ``bcc`` or ``reply_to``, or all of ``from`` or ``sender``."""

    def __init__(self, compiler: Compiler, option: str, header: str, source: str) -> None:
        self.option = option
        self.constant: Mailbox | None = None
        self._header = header
        self._warnings = compiler.warnings
        self._name: Compiled | None = None
        source = source.strip()
        name, address = _split(source)
        if not _TAG.search(source):
            self._set_constant(compiler, source)
        self._address = compiler.option(option, address)
        compiler.sources.add(option, source)
        self._is_list = name is None and _is_one_expression(compiler, address)
        if name:
            self._name = compiler.option(option, name)
            compiler.sources.add(option, source)

    def _set_constant(self, compiler: Compiler, source: str) -> None:
        try:
            name, address = _split(source)
            self.constant = Mailbox(_on_one_line(_unescaped(name or "")), Address.parse(address))
        except AddressError as error:
            hint = f"did you mean {error.suggestion}?" if error.suggestion else None
            if "," in source or ";" in source:
                hint = 'several mailboxes are an array: ["a@example.org", "B <b@example.org>"]'
            compiler.problems.append(
                Diagnostic(
                    code="C442",
                    message=f"`{self.option}` is not a mailbox: {quoted(source)} ({error})",
                    hint=hint,
                    place=compiler.sources.place(self.option),
                )
            )

    @property
    def address_names(self) -> frozenset[str]:
        """The names that the address is made of."""
        return self._address.names

    @property
    def display_names(self) -> frozenset[str]:
        """The names that the display name is made of."""
        return self._name.names if self._name else frozenset()

    def render(self, variables: dict[str, Any], recipient: Recipient) -> tuple[Mailbox, ...]:
        """Return the mailboxes for one row; none if the address comes out empty.

        Raises:
            RowError: a value is not a valid address, or a name contains a control character.

        """
        if self.constant is not None:
            return (self.constant,)
        text = self._address.text(variables).strip()
        if not text:
            return ()
        try:
            if self._is_list:
                return tuple(
                    Mailbox(self._clean(box.name, self._address, recipient), box.address)
                    for box in parse_address_list(text)
                )
            address = Address.parse(text)
        except AddressError as error:
            raise self._refusal(text, error, recipient) from None
        if self._name is None:
            return (Mailbox("", address),)
        return (Mailbox(self._clean(self._name.text(variables), self._name, recipient), address),)

    def _clean(self, text: str, compiled: Compiled, recipient: Recipient) -> str:
        return clean(
            one_line(text, self._header, compiled, recipient, self._warnings),
            self._header,
            compiled,
            recipient,
        )

    def _refusal(self, text: str, error: AddressError, recipient: Recipient) -> RowError:
        columns = [c for c in zip(*_columns(recipient), strict=True) if c[0] in self._address.names]
        name, heading = columns[0][:2] if len(columns) == 1 else (self.option, None)
        hint = f"did you mean {error.suggestion}? " if error.suggestion else ""
        key = self.option.removeprefix("message.").partition("[")[0]
        if heading and key not in {"from", "sender"} and _are_addresses(text):
            hint = f'several addresses in one cell are accepted without a name: {key} = "{{{{ {name} }}}}"'
        elif heading and name.isascii() and '"' not in text and "'" not in text and text.isprintable():
            hint += f"fix the cell or exclude the row: --where '{name} != \"{text}\"'"
        return row_error(
            "D110",
            f"`{name}` is not an address: {quoted(text)} ({error})",
            recipient,
            heading,
            hint=hint.strip() or None,
        )


def _are_addresses(text: str) -> bool:
    """Whether this is several addresses as a list, which only an element that is one expression accepts."""
    try:
        return len(parse_address_list(text)) > 1
    except AddressError:
        return False


def one_line(
    text: str, header: str, compiled: Compiled, recipient: Recipient, warnings: list[Diagnostic]
) -> str:
    """Fold each run of spaces, tabs and line breaks from a cell, in a name or a subject, into one space.

    The template's own text is unchanged, unless no header could contain it.
    """
    if text.isprintable() and "  " not in text:
        return text
    text = text.strip()
    if not _RUN.search(text):
        return text
    culprit = _culprit(_RUN.pattern, compiled, recipient)
    if culprit is None:
        return _on_one_line(text)
    name, heading, value = culprit
    warnings.append(
        Diagnostic(
            code="M222",
            message=f"`{name}` contains {_named_blanks(value)}, which becomes a space in {header}",
            hint=f"a header is one line; correct {quoted(value)} in the cell",
            severity=Severity.WARNING,
            place=Place(cell=f"column {heading}"),
            row=recipient.row,
        )
    )
    return _RUN.sub(" ", text)


def _on_one_line(text: str) -> str:
    return text if text.isprintable() else _RUN.sub(" ", text)


def _named_blanks(value: str) -> str:
    found = "".join(_RUN.findall(value.strip()))
    if set(found) - {" ", "\t"}:
        return "a line break"
    return "a tab" if "\t" in found else "several spaces in a row"


def clean(text: str, header: str, compiled: Compiled, recipient: Recipient) -> str:
    """Make rendered text fit for a header: ends trimmed, Unicode line separators replaced with spaces.

    Raises:
        RowError: a control character (D112) or half a character (D118) remains.

    """
    text = text.strip()
    if text.isprintable():
        return text
    text = text.translate(_SEPARATORS)
    for code, pattern in (("D112", _CONTROL), ("D118", LONE_SURROGATE)):
        if match := re.search(pattern, text):
            name, heading, value = _culprit(pattern, compiled, recipient) or (compiled.name, None, text)
            what = {
                "\r": "line break",
                "\n": "line break",
                "\t": "tab",
            }.get(match[0], "control character" if code == "D112" else HALF_A_CHARACTER)
            would = (
                f"would end the {header} header" if what == "line break" else f"cannot be part of {header}"
            )
            hint = "remove it from the cell; no part of a cell may become a header" if heading else None
            raise row_error(
                code, f"{what} in `{name}` {would}: {quoted(value)}", recipient, heading, hint=hint
            )
    return text


def _columns(recipient: Recipient) -> tuple[tuple[Any, ...], ...]:
    return recipient.columns.names, recipient.columns.headings, recipient.values


def _culprit(pattern: str, compiled: Compiled, recipient: Recipient) -> tuple[str, str, str] | None:
    """Find the column whose value contains a match of *pattern*."""
    for name, heading, value in zip(*_columns(recipient), strict=True):
        if {name, heading, "row"} & compiled.names and re.search(pattern, displayed(value).strip()):
            return name, heading, displayed(value)
    return None


def _split(source: str) -> tuple[str | None, str]:
    """Split ``name <address>`` at its last angle brackets outside tags."""
    plain = _TAG.sub(lambda tag: "\0" * len(tag[0]), source)
    if not plain.endswith(">"):
        return None, source
    start = plain.rfind("<")
    if start < 0:
        return None, source
    return _unquoted(source[:start].strip()), source[start + 1 : -1]


def _unquoted(name: str) -> str:
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def _is_one_expression(compiler: Compiler, source: str) -> bool:
    try:
        body = compiler.text.parse(source).body
    except TemplateSyntaxError:  # already reported when it was compiled
        return False
    if len(body) != 1 or not isinstance(body[0], nodes.Output):
        return False
    pieces = body[0].nodes
    return len(pieces) == 1 and not isinstance(pieces[0], nodes.TemplateData)
