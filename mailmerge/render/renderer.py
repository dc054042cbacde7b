"""The renderer: compiles a campaign's templates once, then turns one row after another into `Rendered`."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace

from mailmerge.errors import NoAddressError
from mailmerge.file_system import FILE_SYSTEM, PrivateFiles
from mailmerge.model import UNSUBSCRIBE_URL, Diagnostic, Rendered, RenderedAttachment
from mailmerge.render.bodies import Bodies, compile_bodies
from mailmerge.render.compiler import Compiled, Compiler
from mailmerge.render.environments import EMPTY
from mailmerge.render.failures import failure, row_error
from mailmerge.render.filters import locale_problem
from mailmerge.render.mailboxes import MailboxTemplate, clean, one_line
from mailmerge.render.sources import is_pattern
from mailmerge.render.unsubscribe_link import Unsubscribing, headers, link, unfit_for_machines, wrong_uri
from mailmerge.text import quoted, trimmed
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mailmerge.addresses import Mailbox
    from mailmerge.errors import RowError
    from mailmerge.file_system import FileSystem
    from mailmerge.model import Columns, Recipient
    from mailmerge.render.documents import DocumentTemplate
    from mailmerge.render.sources import MessageTemplates, SourceMap
    from mailmerge.render.variants import Variants
    from mailmerge.render.where import GroupBy, Where

_CODES = re.compile(r"\|\s*qr\b")
_URI = r"<(?:https|mailto):[!-+\--;=?-~]+>"  # no space, comma or bracket inside
_URI_LIST = rf"{_URI}(?:\s*,\s*{_URI})*\Z"


class Renderer:
    """Turns rows into subjects, bodies, mailboxes, headers and attachment names.

    *finalize* replaces `printed` for values in bodies, to mark them for people; *files* reads templates,
    *own* knows the files that no template may include.

    Not safe to share between threads: the filters read the locale of the row that is being rendered.

    Raises:
        TemplateError: with every problem that can be found before the first row.

    """

    sources_digest: str
    """SHA-256 over every template that can be reached by a literal name, and the variables."""
    used_names: frozenset[str]
    """Names and headings that the templates read."""
    written_names: frozenset[str]
    """Those whose displayed text may be output, not only their value."""

    def __init__(
        self,
        templates: MessageTemplates,
        columns: Columns,
        *,
        where: str | None = None,
        finalize: Callable[[Any], Any] | None = None,
        files: FileSystem = FILE_SYSTEM,
        own: PrivateFiles | None = None,
    ) -> None:
        self._grouped = templates.group_by is not None
        link_name = (UNSUBSCRIBE_URL,) if templates.unsubscribe else ()
        self._known = {*columns.names, "row", *templates.vars, *link_name}
        compiler = Compiler(templates, columns, finalize=finalize, files=files, own=own)
        self._sources = compiler.sources
        self._filters = compiler.filters
        self._from = MailboxTemplate(compiler, "message.from", "From", templates.from_)
        self._sender = None
        if templates.sender:
            self._sender = MailboxTemplate(compiler, "message.sender", "Sender", templates.sender)
        self._to = _mailboxes(compiler, "to", templates.to)
        self._cc = _mailboxes(compiler, "cc", templates.cc)
        self._bcc = _mailboxes(compiler, "bcc", templates.bcc)
        self._reply_to = _mailboxes(compiler, "reply_to", templates.reply_to)
        self._locale = compiler.option("message.locale", templates.locale)
        self._check_locale(compiler, templates.locale)
        self._subject = compiler.option("message.subject", templates.subject)
        self._headers = tuple(_header_templates(compiler, templates.headers))
        self._fixed_headers: dict[str, tuple[str, str]] = {}
        self._unsubscribing = None
        if templates.unsubscribe:
            self._unsubscribing = Unsubscribing(compiler, templates.unsubscribe, columns)
        self._documents = dict(_documents(compiler, templates))
        self._attachments = tuple(self._rules(compiler, templates, columns))
        self._event = None
        if templates.calendar:
            from mailmerge.render.calendar import EventTemplate

            self._event = EventTemplate(compiler, templates.calendar)
        self._variants = self._choosing(compiler, templates, own or PrivateFiles())
        self._bodies = Bodies() if self._variants else compile_bodies(compiler, templates)
        compiler.report()
        self._compiler = compiler
        self._base = dict(compiler.text.globals)
        self.sources_digest = self._digest(templates)
        self._where = self._selecting(compiler, where, columns) if where else None
        self._group_by = self._grouping(compiler, templates.group_by, columns) if templates.group_by else None
        self._known |= {"rows"} if self._grouped else set()
        self.written_names = frozenset(compiler.written)
        asked = (one.names for one in (self._where, self._group_by) if one)
        self.used_names = frozenset(compiler.names.union(*asked))

    def _check_locale(self, compiler: Compiler, written: str) -> None:
        """Record that the locale of all rows is not valid."""
        name = self._locale.constant
        if name is not None and name != "en" and (hint := locale_problem(name)):
            message = f"`message.locale` is not a locale: {quoted(name)}"
            place = compiler.sources.place("message.locale", 1, written)
            compiler.note(Diagnostic("T152", message, hint=hint, place=place))

    def _not_a_locale(self, hint: str, recipient: Recipient) -> RowError:
        name, columns = self._filters.locale, recipient.columns
        used = [column for column in columns.names if column in self._locale.names]
        what = f"`{used[0]}`" if len(used) == 1 else "`message.locale`"
        heading = columns.headings[columns.names.index(used[0])] if len(used) == 1 else None
        if not name:
            message = f"{what} is empty: no locale for dates and numbers"
            hint = f"give a default: locale = \"{{{{ {used[0] if used else 'lang'} or 'en' }}}}\""
        else:
            message = f"{what} is not a locale: {quoted(name)}"
        return row_error("D114", message, recipient, heading, hint=hint)

    @staticmethod
    def _choosing(compiler: Compiler, templates: MessageTemplates, own: PrivateFiles) -> Variants | None:
        """Return what chooses the bodies of each row; None: all rows have the same."""
        if not is_pattern(templates.text) and not is_pattern(templates.html):
            return None
        from mailmerge.render.variants import Variants

        return Variants(compiler, templates, own)

    def _selecting(self, compiler: Compiler, where: str, columns: Columns) -> Where:
        from mailmerge.render.where import Where

        return Where(compiler.text, where, self._known, columns, compiler.sources.option("data.where"))

    def _grouping(self, compiler: Compiler, group_by: str, columns: Columns) -> GroupBy:
        from mailmerge.render.where import GroupBy

        return GroupBy(
            compiler.text, group_by, self._known, columns, compiler.sources.option("data.group_by")
        )

    def group(self, recipient: Recipient) -> str:
        """Return the key of the message that this row is part of; empty: it is part of none.

        Raises:
            RowError: the expression cannot use the row's data.
            CampaignFileError: the expression is wrong for every row.

        """
        assert self._group_by is not None
        try:
            return self._group_by(self._own_variables(recipient), recipient)
        except Exception as error:  # noqa: BLE001  whatever a template can raise
            raise self._failure(error, recipient) from None

    def _rules(
        self, compiler: Compiler, templates: MessageTemplates, columns: Columns
    ) -> Iterator[tuple[Compiled, Compiled | None, bool]]:
        """Yield path and name of each attachment rule, and whether both are the same for every row."""
        of_row = {*columns.names, *columns.headings, "row", "rows"}
        for index, rule in enumerate(templates.attachments):
            path = compiler.option(f"attach[{index}].path", rule.path, "path")
            named = rule.name and index not in self._documents
            name = compiler.option(f"attach[{index}].name", rule.name or "") if named else None
            yield path, name, of_row.isdisjoint(path.names) and not path.reached

    def selects(self, recipient: Recipient) -> bool:
        """Return whether ``where`` selects this row; without ``where`` every row is selected.

        Raises:
            RowError: the expression cannot use the row's data.
            CampaignFileError: the expression is wrong for every row.

        """
        if self._where is None:
            return True
        try:
            return self._where(self._own_variables(recipient), recipient)
        except Exception as error:  # noqa: BLE001  whatever a template can raise
            raise self._failure(error, recipient) from None

    def render(self, recipient: Recipient) -> Rendered:
        """Run every template over one row.

        Raises:
            RowError: the row's data is the cause.
            TemplateError: the template is the cause.

        """
        try:
            return self._render(recipient)
        except Exception as error:  # noqa: BLE001  whatever a template can raise
            raise self._failure(error, recipient) from None

    def address(self, recipient: Recipient) -> str:
        """Return the first address of a row that cannot be rendered; empty: it has none."""
        try:
            return str(_rendered(self._to, self._variables(recipient), recipient)[0].address)
        except Exception:  # noqa: BLE001  whatever a template can raise
            return ""

    def variant(self, recipient: Recipient) -> str:
        """Return the files of a row's bodies; empty: the same for all rows.

        Raises:
            RowError: as `render`.

        """
        if self._variants is None:
            return ""
        try:
            return self._variants.named(self._variables(recipient))
        except Exception as error:  # noqa: BLE001  whatever a template can raise
            raise self._failure(error, recipient) from None

    def static_chunks(self) -> dict[str, tuple[str, ...]]:
        """Return the fixed strings that the bodies are made of, under ``text`` and ``html``."""
        kinds: tuple[tuple[Literal["text", "html"], list[Compiled]], ...] = (
            ("text", [bodies.text for bodies in self._all_bodies if bodies.text]),
            ("html", [bodies.html for bodies in self._all_bodies if bodies.html]),
        )
        return {
            kind: tuple(
                dict.fromkeys(chunk for body in found for chunk in self._compiler.static_chunks(body, kind))
            )
            for kind, found in kinds
            if found
        }

    @property
    def _all_bodies(self) -> tuple[Bodies, ...]:
        return self._variants.all if self._variants else (self._bodies,)

    def roles(self) -> dict[str, str]:
        """Return the uses of names and headings for which damage matters most: ``in the greeting``."""
        from mailmerge.render.roles import GREETING, greeted

        every = [(body, body is one.html) for one in self._all_bodies for body in (one.text, one.html)]
        sources = [
            (self._sources.compiled(name), is_html)
            for body, is_html in every
            if body
            for name in (body.name, *body.reached)
        ]
        found = dict.fromkeys(self._subject.names, "in the subject")
        found |= dict.fromkeys(greeted(self._compiler.text, sources), GREETING)
        boxes = {"To": self._to, "Cc": self._cc, "Bcc": self._bcc, "Reply-To": self._reply_to}
        for header, templates in boxes.items():
            for template in templates:
                found |= dict.fromkeys(template.display_names, f"as a name in {header}")
        for header, templates in reversed(boxes.items()):
            for template in templates:
                found |= dict.fromkeys(template.address_names, f"as an address in {header}")
        return found

    @property
    def address_column(self) -> str:
        """The name or heading that the address is made of; empty: of several, or of none."""
        names = {name for box in self._to for name in box.address_names}
        return names.pop() if len(names) == 1 else ""

    @property
    def uses_codes(self) -> bool:
        """Whether a template shows QR codes."""
        return any(map(_CODES.search, self._sources.texts.values()))

    @property
    def sources(self) -> SourceMap:
        """The templates as they were written, and the place of each."""
        return self._sources

    @property
    def has_token(self) -> bool:
        """Whether messages have an unsubscribe token, open until they are sent."""
        return self._unsubscribing is not None and self._unsubscribing.has_token

    @property
    def constant_attachments(self) -> tuple[RenderedAttachment | None, ...]:
        """The attachment of each rule that is the same for every row, else None."""
        return tuple(
            RenderedAttachment(rule, path.constant, name.constant if name else None, fixed=fixed)
            if path.constant is not None
            and (name is None or name.constant is not None)
            and rule not in self._documents
            else None
            for rule, (path, name, fixed) in enumerate(self._attachments)
        )

    def _variables(self, recipient: Recipient) -> dict[str, Any]:
        """Return the variables of the templates of a message."""
        if not self._grouped:
            return self._own_variables(recipient)
        from mailmerge.render.group_variables import group_variables, refuse_several_addresses

        own = [_fields(one) for one in (recipient, *(other for _, other in recipient.others))]
        variables = {**self._base, **group_variables(own, recipient)}
        if recipient.others:
            names = (name for box in self._to for name in box.address_names)
            refuse_several_addresses(names, variables, recipient)
        if self._unsubscribing is not None:
            variables[UNSUBSCRIBE_URL] = link(self._unsubscribing.uris(variables))
        self._filters.locale = self._locale.text(variables)
        return variables

    def _own_variables(self, recipient: Recipient) -> dict[str, Any]:
        """Return the variables of a single row."""
        columns = recipient.columns
        # Spaces at the ends of a cell are invisible, and no greeting should have them before its comma.
        values = [trimmed(value) if value.__class__ is str else value for value in recipient.values]
        variables = {**self._base, **dict(zip(columns.names, values, strict=True))}
        variables["row"] = dict(
            zip(columns.headings, values, strict=True)
        )  # even if the list has a column Row
        self._filters.locale = self._locale.text(variables)
        if self._unsubscribing is not None:
            variables[UNSUBSCRIBE_URL] = link(self._unsubscribing.uris(variables))
        return variables

    def _render(self, recipient: Recipient) -> Rendered:
        variables = self._variables(recipient) if self._grouped else self._own_variables(recipient)
        if self._locale.constant is None and (hint := locale_problem(self._filters.locale)):
            raise self._not_a_locale(hint, recipient)
        warnings = self._compiler.warnings
        if warnings:
            warnings.clear()
        to = self._required(self._to, variables, recipient)
        subject = one_line(self._subject.text(variables), "Subject", self._subject, recipient, warnings)
        subject = clean(subject, "Subject", self._subject, recipient)
        if not subject:
            raise row_error("D115", "the subject is empty", recipient)
        bodies = self._variants.choose(variables, recipient) if self._variants else self._bodies
        before = self._body(bodies.html, "HTML", variables, recipient)
        html = self._with_styles(bodies, before)
        return Rendered(
            recipient=recipient,
            from_=self._one(self._from, variables, recipient),
            to=to,
            subject=subject,
            cc=_rendered(self._cc, variables, recipient),
            bcc=_rendered(self._bcc, variables, recipient),
            reply_to=_rendered(self._reply_to, variables, recipient),
            sender=self._one(self._sender, variables, recipient) if self._sender else None,
            text=self._text_body(bodies, html, variables, recipient),
            html=html,
            html_before=before if bodies.inline else None,
            headers=self._all_headers(variables, recipient) if self._headers or self._unsubscribing else (),
            attachments=self._named(variables, recipient) if self._attachments else (),
            event=self._event.render(variables, recipient) if self._event else None,
            warnings=(*bodies.warnings, *warnings),
        )

    def _named(self, variables: dict[str, Any], recipient: Recipient) -> tuple[RenderedAttachment, ...]:
        if recipient.others:
            return self._named_by_each(variables, recipient)
        return tuple(
            [
                self._documents[rule].render(variables, recipient)
                if rule in self._documents
                else _attachment(rule, path, name, variables, recipient, fixed=fixed)
                for rule, (path, name, fixed) in enumerate(self._attachments)
            ]
        )

    def _named_by_each(
        self, variables: dict[str, Any], recipient: Recipient
    ) -> tuple[RenderedAttachment, ...]:
        """Return the attachments of all rows of a message, each file once; a generated file is for all."""
        found: dict[RenderedAttachment, RenderedAttachment] = {}
        alone = replace(recipient, others=())
        every = [alone, *(other for _, other in recipient.others)]
        seen = [{**variables, **self._own_variables(one), "rows": variables["rows"]} for one in every]
        for rule, (path, name, fixed) in enumerate(self._attachments):
            if rule in self._documents:  # one for the message, which has all rows in `rows`
                made = self._documents[rule].render(variables, recipient)
                found[made] = made
                continue
            for one, own in zip(every, seen, strict=True):
                try:
                    named = _attachment(rule, path, name, own, one, fixed=fixed)
                except Exception as error:  # noqa: BLE001  whatever a template can raise
                    raise self._failure(error, one) from None
                found.setdefault(named, replace(named, row=one.row))
        return tuple(found.values())

    @staticmethod
    def _with_styles(bodies: Bodies, chunks: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if chunks is None or not bodies.inline:
            return chunks
        from mailmerge.render.style_sheets import inlined

        return (inlined("".join(chunks)),)

    def _text_body(
        self,
        bodies: Bodies,
        html: tuple[str, ...] | None,
        variables: dict[str, Any],
        recipient: Recipient,
    ) -> tuple[str, ...] | None:
        if bodies.text_of_html:
            from mailmerge.render.plain_text import text_of

            text = text_of("".join(html or ()))
            return (text,) if text else None
        if bodies.optional_text and bodies.text is not None:
            chunks = tuple(bodies.text.chunks(variables))
            return chunks if any(chunk and not chunk.isspace() for chunk in chunks) else None
        return self._body(bodies.text, "text", variables, recipient)

    def _body(
        self, compiled: Compiled | None, what: str, variables: dict[str, Any], recipient: Recipient
    ) -> tuple[str, ...] | None:
        if compiled is None:
            return None
        chunks = tuple(compiled.chunks(variables))
        if not any(chunk and not chunk.isspace() for chunk in chunks):
            raise row_error("D116", f"the {what} body is empty", recipient)
        return chunks

    def _all_headers(self, variables: dict[str, Any], recipient: Recipient) -> tuple[tuple[str, str], ...]:
        own = tuple(self._header(name, value, variables, recipient) for name, value in self._headers)
        if self._unsubscribing is None:
            return own
        uris = self._unsubscribing.uris(variables)
        if (wrong := wrong_uri(uris)) is not None:
            raise row_error(
                "D119",
                f"`message.unsubscribe` is not an https: or mailto: address: {quoted(wrong)}",
                recipient,
                hint="spaces, commas and angle brackets in a value must be percent-encoded: |urlencode",
            )
        return (*own, *headers(uris))

    def _header(
        self, name: str, value: Compiled, variables: dict[str, Any], recipient: Recipient
    ) -> tuple[str, str]:
        if name in self._fixed_headers:
            return self._fixed_headers[name]
        text = clean(value.text(variables), name, value, recipient)
        if name.lower() == "list-unsubscribe" and not _is_uri_list(text, self._sources.texts[value.name]):
            raise row_error(
                "D119",
                f"{name} is not a list of <https:...> and <mailto:...> addresses: {quoted(text)}",
                recipient,
                hint="spaces, commas and angle brackets in a value must be percent-encoded: |urlencode",
            )
        if wrong := unfit_for_machines(name, text):
            raise row_error("M513", wrong, recipient)
        if value.constant is not None:
            self._fixed_headers[name] = name, text
        return name, text

    def _required(
        self, templates: Sequence[MailboxTemplate], variables: dict[str, Any], recipient: Recipient
    ) -> tuple[Mailbox, ...]:
        mailboxes = _rendered(templates, variables, recipient)
        if not mailboxes:
            raise _nobody("To", templates, recipient)
        return mailboxes

    def _one(self, template: MailboxTemplate, variables: dict[str, Any], recipient: Recipient) -> Mailbox:
        mailboxes = template.render(variables, recipient)
        if len(mailboxes) != 1:
            raise row_error("D110", f"`{template.option}` must be exactly one mailbox", recipient)
        return mailboxes[0]

    def _failure(self, error: Exception, recipient: Recipient) -> Exception:
        return failure(error, self._sources, self._known - {"row", "rows"}, recipient)

    def _digest(self, templates: MessageTemplates) -> str:
        sha = hashlib.sha256()
        options = [(name, value) for name, value in sorted(self._sources.texts.items())]
        for name, value in [*options, *sorted((k, repr(v)) for k, v in templates.vars.items())]:
            sha.update(f"{len(name)}:{name}{len(value)}:{value}".encode("utf-8", "surrogatepass"))
        return sha.hexdigest()


_LONGEST_PATH = 4096


def _attachment(
    rule: int,
    path: Compiled,
    name: Compiled | None,
    variables: dict[str, Any],
    recipient: Recipient,
    *,
    fixed: bool,
) -> RenderedAttachment:
    text, empty = path.text(variables), None
    if EMPTY in text:
        text = text.replace(EMPTY, "")
        empty = next((known for known in sorted(path.names) if _is_blank(variables.get(known))), "")
    shown = name.text(variables) if name else None
    if len(text) > _LONGEST_PATH:  # searching for it would take too long
        message = f"the path of an attachment has {len(text):,} characters"
        hint = f"at most {_LONGEST_PATH:,} are possible: correct the cell"
        raise row_error("D166", message, recipient, hint=hint)
    return RenderedAttachment(rule, text.strip(), shown, empty, fixed)


def _fields(recipient: Recipient) -> dict[str, Any]:
    """Return the fields of one of several rows by name."""
    values = [trimmed(value) if value.__class__ is str else value for value in recipient.values]
    return dict(zip(recipient.columns.names, values, strict=True))


def _is_blank(value: Any) -> bool:
    shown = None if value is None else displayed(value)
    return isinstance(shown, str) and not shown.strip()


def _documents(compiler: Compiler, templates: MessageTemplates) -> Iterator[tuple[int, DocumentTemplate]]:
    """Yield the attachments that are made from templates, by the place of their rules."""
    for index, rule in enumerate(templates.attachments):
        if rule.template is not None:
            from mailmerge.render.documents import DocumentTemplate

            yield index, DocumentTemplate(compiler, index, rule)


def _header_templates(
    compiler: Compiler, headers: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, Compiled]]:
    """Yield the templates of custom headers, by name; note those that can fit no row."""
    for name, source in headers:
        value = compiler.option(f"message.headers.{name}", source)
        if value.constant is not None and (wrong := unfit_for_machines(name, value.constant)):
            compiler.note(Diagnostic("M513", wrong, place=compiler.sources.place(value.name, 1)))
        yield name, value


def _mailboxes(compiler: Compiler, name: str, sources: Iterable[str]) -> tuple[MailboxTemplate, ...]:
    header = {"to": "To", "cc": "Cc", "bcc": "Bcc", "reply_to": "Reply-To"}[name]
    return tuple(
        MailboxTemplate(compiler, f"message.{name}[{index}]", header, source)
        for index, source in enumerate(sources)
    )


def _rendered(
    templates: Sequence[MailboxTemplate], variables: dict[str, Any], recipient: Recipient
) -> tuple[Mailbox, ...]:
    if not templates:
        return ()
    if len(templates) == 1:
        return templates[0].render(variables, recipient)
    return tuple(box for template in templates for box in template.render(variables, recipient))


def _nobody(header: str, templates: Sequence[MailboxTemplate], recipient: Recipient) -> RowError:
    names = recipient.columns.names
    used = [name for name in names if any(name in template.address_names for template in templates)]
    heading = recipient.columns.headings[names.index(used[0])] if len(used) == 1 else None
    what = f"`{used[0]}` is empty" if heading else f"no address in {header}"
    hint = f"fill in the cell or exclude the row: --where '{used[0]} != \"\"'" if heading else None
    found = row_error("D141", f"{what}: the message has no recipient", recipient, heading, hint=hint)
    error = NoAddressError(found.message, code=found.code, hint=found.hint, place=found.place, row=found.row)
    error.empty = used[0] if heading else None
    return error


def _is_uri_list(text: str, template: str) -> bool:
    return bool(re.match(_URI_LIST, text)) and text.count("<") == _addresses_in(template)


@lru_cache(maxsize=16)
def _addresses_in(template: str) -> int:
    """Return the number of addresses in a List-Unsubscribe template itself: a cell cannot add one."""
    return max(1, re.sub(r"\{[{%].*?[%}]\}", "", template).count("<"))
