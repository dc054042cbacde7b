"""Files that are made for each row: the output of their templates, as input for the makers.

A page (``.html``) is rendered with values escaped, plain text (``.txt``) without; in a CSV file each value
remains one field. A Typst template (``.typ``) is not a Jinja template: it receives the row as data in
``sys.inputs``, so no cell is ever markup.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from mailmerge.model import RenderedAttachment, RenderedDocument
from mailmerge.render.delimited import quoted_fields
from mailmerge.render.environments import END, START
from mailmerge.render.failures import row_error
from mailmerge.render.sources import TemplateSource
from mailmerge.unsubscribe import STAND_IN
from mailmerge.values import Number, Truth, Value, canonical, displayed, kind_of

if TYPE_CHECKING:
    from mailmerge.model import AttachmentRule, Recipient
    from mailmerge.render.compiler import Compiled, Compiler

_PAGES = frozenset((".html", ".htm"))
_TABLES = frozenset((".csv", ".tsv"))
_WORD = re.compile(r"[^\W\d][\w-]*")
_STRING = re.compile(r'"([^"\\\n]+)"')
_MOST_EXACT = 1 << 53
_LONGEST_PASSWORD = 127
"""Longest password in octets: ISO 32000-2, 7.6.4.3.3."""


class DocumentTemplate:
    """The template of one ``[[attach]]`` rule that makes a file.

    Args:
        compiler: compiles it, and collects its problems.
        index: the rule's index in the campaign file.
        rule: the rule, which names the template.

    """

    def __init__(self, compiler: Compiler, index: int, rule: AttachmentRule) -> None:
        assert rule.template is not None
        self._index = index
        self._shown = str(rule.template)
        suffix = rule.template.suffix.lower()
        source = TemplateSource(self._shown, rule.template)
        self._body: Compiled | None = None
        self._is_page, self._is_table = suffix in _PAGES, suffix in _TABLES
        if suffix == ".typ":
            compiler.note_used(*_named(compiler.load(source)[1]))
        else:
            self._body = compiler.body(
                source, "html" if self._is_page else "field" if self._is_table else "text"
            )
        self._name = compiler.option(f"attach[{index}].name", rule.name) if rule.name else None
        self._password = None
        if rule.password is not None:
            self._password = compiler.option(f"attach[{index}].password", rule.password)
        made = suffix if self._body is not None and not self._is_page else ".pdf"
        self._file_name = rule.template.stem + made
        self._suffix = made

    def render(self, variables: dict[str, Any], recipient: Recipient) -> RenderedAttachment:
        """Return what the row's file is made of.

        Raises:
            RowError: its password is empty or too long, or a cell cannot be a field.

        """
        name = (self._name.text(variables).strip() if self._name else "") or self._file_name
        if not name.lower().endswith(self._suffix):
            name += self._suffix
        content = _data(variables) if self._body is None else self._content(self._body, variables, recipient)
        if STAND_IN in content:
            message = (
                f"{self._file_name} contains the unsubscribe link, which is made only when a message is sent"
            )
            hint = "put the link into the message's text and HTML"
            raise row_error("A351", message, recipient, hint=hint)
        document = RenderedDocument(
            "typst" if self._body is None else "html" if self._is_page else "text",
            content,
            self._rendered_password(variables, recipient),
        )
        return RenderedAttachment(self._index, name, name, document=document)

    def _content(self, body: Compiled, variables: dict[str, Any], recipient: Recipient) -> str:
        if not self._is_table:
            return body.text(variables)
        for heading, value in recipient.fields.items():
            if isinstance(value, str) and (START in value or END in value):
                message = f"`{heading}` contains a character that cannot be in a CSV file here (U+F5AB0)"
                raise row_error("D118", message, recipient, heading)
        text = quoted_fields(body.text(variables))
        # Without it, Excel reads UTF-8 as another encoding.
        return text if text.isascii() else f"\ufeff{text}"

    def _rendered_password(self, variables: dict[str, Any], recipient: Recipient) -> str | None:
        if self._password is None:
            return None
        password = self._password.text(variables).strip()
        if not password:
            hint = "fill in the cell, or leave the row out with --where"
            raise row_error("A352", f"the password of {self._file_name} is empty", recipient, hint=hint)
        if len(password.encode("utf-8", "surrogatepass")) > _LONGEST_PASSWORD:
            message = f"the password of {self._file_name} is longer than {_LONGEST_PASSWORD} octets"
            raise row_error("A352", message, recipient)
        return password


def _named(source: str) -> tuple[set[str], set[str]]:
    """Return what may be names of columns in a Typst template: its words, and its quoted strings."""
    return set(_WORD.findall(source)), set(_STRING.findall(source))


def _data(variables: dict[str, Any]) -> str:
    """Return the row as JSON: names with displayed texts, ``row`` by headings, ``values`` with types."""
    cells = {
        name: value
        for name, value in variables.items()
        if not callable(value) and name != "row" and not (isinstance(value, str) and STAND_IN in value)
    }
    texts = {name: str(displayed(value)) for name, value in cells.items() if kind_of(value)}
    table = {
        **texts,
        "row": json.dumps(_plain(variables["row"], typed=False), ensure_ascii=False),
        "values": json.dumps({name: _plain(value) for name, value in cells.items()}, ensure_ascii=False),
    }
    return json.dumps(table, ensure_ascii=False, sort_keys=True)


def _plain(value: Any, *, typed: bool = True) -> Any:
    """Turn a value into what JSON can express: numbers and booleans as such if *typed*, else strings."""
    if isinstance(value, dict):
        return {str(name): _plain(item, typed=typed) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, typed=typed) for item in value]
    kind = kind_of(value)
    if kind is None:
        return None
    if typed and kind in {Number, Truth}:
        return _number(value.value if isinstance(value, Value) else value)
    return canonical(value) if typed else str(displayed(value))


def _number(own: Any) -> Any:
    """Turn a number or a boolean into one that every JSON reader reads alike."""
    if isinstance(own, bool):
        return own
    return int(own) if own == int(own) and abs(own) < _MOST_EXACT else float(own)
