"""Everything that turns one row into one message, put together once per campaign.

Preview, check, rehearsal and sending share it: what they show or send comes from here.
"""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.errors import CampaignFileError, PlanDamaged, RowError
from mailmerge.file_system import FILE_SYSTEM, PrivateFiles
from mailmerge.masking import Secret
from mailmerge.message import MessageBuilder, Thawer, message_id
from mailmerge.model import OWN_HEADER, AttachmentRule, Recipient
from mailmerge.option_types import AUTO, LAYOUTS, MarkdownText
from mailmerge.render import MessageTemplates, Renderer, TemplateSource, marked
from mailmerge.render.bodies import is_markdown, is_mjml
from mailmerge.render.sources import DEFAULT_LAYOUT, Layout, fixed_folder, stock_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from mailmerge.addresses import Address
    from mailmerge.check.lint import Lint
    from mailmerge.config.accounts import Account
    from mailmerge.config.campaign_file import CampaignFile
    from mailmerge.documents.maker import DocumentMaker
    from mailmerge.file_system import FileSystem
    from mailmerge.message.dkim import DkimSignatures
    from mailmerge.model import Columns, FrozenMessage, Message, Place, Rendered
    from mailmerge.options import MessageOptions
    from mailmerge.plan.store import PlanReader, PlanRow
    from mailmerge.unsubscribe import UnsubscribeKey


class Recipe(Struct, frozen=True):
    """The author's options that decide a campaign's messages, except the list."""

    templates: MessageTemplates
    where: str | None = None
    ignore: tuple[str, ...] = ()
    """Codes of findings that are ignored, sorted."""
    own_files: Mapping[str, str] = field(default_factory=dict)
    """Files that must not be attached, each with its description in messages."""
    own_folders: tuple[str, ...] = ()
    """Folders whose files must not be attached."""
    documents: str = ""
    """The folder where files are kept that are made for rows."""


def recipe(
    file: CampaignFile,
    account: Account | None = None,
    *,
    out: Path | None = None,
    documents: Path | None = None,
) -> Recipe:
    """Return the part of a campaign file that decides its messages.

    Args:
        file: what to send.
        account: who sends, for From where the campaign does not set it.
        out: where reports are written, if that is not the folder ``out``.
        documents: where files are kept that are made for rows.

    Raises:
        CampaignFileError: no sender is set.

    """
    sender = file.message.from_ or (str(account.from_) if account and account.from_ else None)
    if sender is None:
        raise CampaignFileError(
            "no sender: `message.from` is missing",
            code="C460",
            hint='write from = "Me <me@example.org>" under [message], or give --from',
        )
    folders = {file.folder / "out", file.folder / ".mailmerge"}
    if out is not None and not file.folder.resolve().is_relative_to(out.resolve()):
        folders.add(out)
    return Recipe(
        _templates(file, sender),
        file.data.where,
        tuple(sorted(file.check.ignore)),
        _own_files(file),
        tuple(sorted(map(str, folders))),
        "" if documents is None else str(documents),
    )


class Composer:
    """A campaign's compiled templates and message builder.

    Args:
        recipe: the author's options.
        columns: the list's headings.
        list_name: the list's name in messages.
        files: how templates, attachments and images are accessed.

    Raises:
        TemplateError: templates that do not compile, with all their problems.

    """

    def __init__(
        self,
        recipe: Recipe,
        columns: Columns,
        *,
        list_name: str | None = None,
        files: FileSystem = FILE_SYSTEM,
    ) -> None:
        self.recipe = recipe
        self.sender = recipe.templates.from_
        self._own = _private_files(recipe)
        self._list_name = list_name
        self._templates = recipe.templates
        self._columns = columns
        self.renderer = Renderer(self._templates, columns, where=recipe.where, files=files, own=self._own)
        self.parts = self._parts()
        self.version = _digest(self.parts)
        self._mail_from: Address | None = None
        fixed = self.renderer.static_chunks()
        self._fixed = frozenset(chunk for chunks in fixed.values() for chunk in chunks)
        self._builder = MessageBuilder(
            version=self.version,
            base=self._templates.base,
            rules=self._templates.attachments,
            constants=self.renderer.constant_attachments,
            static=fixed,
            files=files,
            own=self._own,
            codes=self._codes(),
        )
        self.attaches = bool(recipe.templates.attachments)
        """Whether it has any rule for attachments."""
        self.needs_key = self.renderer.has_token
        """Whether its messages have unsubscribe tokens."""
        self._key: UnsubscribeKey | None = None
        self._guard: Secret | None = None
        self._signatures: DkimSignatures | None = None
        self.copies = bool(recipe.templates.cc or recipe.templates.bcc)
        """Whether messages go to others, too."""
        self._thawer = Thawer()
        if self._templates.calendar:
            from mailmerge.extras import require

            require("calendar", "invitations", place=self._templates.places.get("message.calendar"))
            self.parts["calendar"] = _digest(dict(self._templates.calendar))
            self.version = _digest(self.parts)
        self.documents = self._maker(files)
        """Makes files for rows; None: no rule needs any."""
        if self.documents is not None:
            self.parts["documents"] = self.documents.digest
            self.version = _digest(self.parts)
        if self._builder.files_digest:
            self.parts["files"] = self._builder.files_digest
            self.version = _digest(self.parts)

    @property
    def makers(self) -> dict[str, str]:
        """The distributions of extras that it uses, by what they are called."""
        used = self.documents.extras if self.documents is not None else ()
        used = (*used, "calendar") if self._templates.calendar else used
        used = (*used, "mjml") if is_mjml(self._templates.html) else used
        used = (*used, "qr") if self.renderer.uses_codes else used
        if not used:
            return {}
        from mailmerge.extras import EXTRAS

        return {name: told for extra in used for name, told in EXTRAS[extra].distributions.items()}

    def _codes(self) -> Callable[[str], str] | None:
        """Return what makes QR codes, if a template asks for any."""
        if not self.renderer.uses_codes:
            return None
        from mailmerge.documents.qr import QrCodes
        from mailmerge.extras import require

        require("qr", "QR codes")

        return QrCodes(Path(self.recipe.documents)).path

    def _maker(self, files: FileSystem) -> DocumentMaker | None:
        if not any(rule.template is not None for rule in self._templates.attachments):
            return None
        from mailmerge.documents.maker import DocumentMaker

        base, folder = self._templates.base, Path(self.recipe.documents)
        return DocumentMaker(folder, self._templates.attachments, base, files, self._own)

    def _parts(self) -> dict[str, str]:
        message = self._templates
        return {
            "templates": self.renderer.sources_digest,
            "subject": _digest(message.subject),
            "sender": _digest([self.sender, message.sender]),
            "recipients": _digest(
                [message.to, message.cc, message.bcc, message.reply_to, *filter(None, [message.group_by])]
            ),
            "headers": _digest(
                [message.headers, message.locale, *([message.unsubscribe] if message.unsubscribe else [])]
            ),
            "variables": _digest(dict(message.vars)),
            **({"styles": _digest("inline")} if message.inline_css else {}),
            "attachments": _digest(
                [
                    [
                        rule.path,
                        rule.name,
                        rule.missing,
                        *([rule.template.name, rule.password] if rule.template else ()),
                    ]
                    for rule in message.attachments
                ]
            ),
        }

    def marking_renderer(self) -> Renderer:
        """Compile the templates once more, printing each value between two marks: to show, never to send."""
        return Renderer(self._templates, self._columns, finalize=marked, own=self._own)

    def lint(self) -> Lint:
        """Return what reads the messages of one pass over the list."""
        from mailmerge.check.lint import Lint
        from mailmerge.check.message_view import SourceLocator

        sources = self.renderer.sources
        # A Typst template has brackets and braces of its own.
        written = {name: text for name, text in sources.texts.items() if not name.endswith(".typ")}
        texts = {name: text for name, text in self._templates.vars.items() if isinstance(text, str)}
        written |= {f"vars.{name}": text for name, text in texts.items()}
        headers = {name.lower(): (name, value) for name, value in self._templates.headers}
        name, value = headers.get("list-unsubscribe", ("", ""))
        if self._templates.unsubscribe and not self.needs_key:
            name, value = "unsubscribe", " ".join(self._templates.unsubscribe)
        return Lint(
            SourceLocator(
                written,
                sources.place,
                self._fixed,
                self._columns,
                sources.layout,
                {name: made.text for name, made in sources.made.items()},
            ),
            ignore=self.recipe.ignore,
            unsubscribe=(value, self._place_of_header(name)) if name else None,
        )

    def _place_of_header(self, name: str) -> Place | None:
        places = self._templates.places
        return places.get(f"message.headers.{name}") or places.get(f"message.{name}")

    def selects(self, recipient: Recipient) -> bool:
        """Return whether the campaign's ``where`` lets this row in."""
        return self.renderer.selects(recipient)

    @property
    def groups(self) -> bool:
        """Whether several rows may share a message."""
        return self._templates.group_by is not None

    def group(self, recipient: Recipient) -> str:
        """Return the key of the message that this row is part of; see `Renderer.group`."""
        return self.renderer.group(recipient)

    def render(self, recipient: Recipient) -> Rendered:
        """Run the templates over one row, or over the rows of one message.

        Raises:
            RowError: the row's data cannot become a message.
            TemplateError: a template fails.

        """
        if recipient.problems:
            raise RowError(recipient.problems[0].message, problems=recipient.problems)
        for _, other in recipient.others:
            if other.problems:
                raise RowError(other.problems[0].message, problems=other.problems)
        try:
            rendered = self.renderer.render(recipient)
        except RowError as error:
            if error.place and error.place.path is None:  # it names a column: add the list
                error.place = replace(error.place, path=self._list_name)
            raise
        return rendered

    def freeze(self, rendered: Rendered, *, key: str | None = None) -> FrozenMessage:
        """Build all of a rendered row's message that can be known before it is sent.

        Args:
            rendered: the row.
            key: what the message is for, if not the row.

        Raises:
            RowError: an attachment is missing, not to be sent, or cannot be made.

        """
        key = identity(rendered) if key is None else key
        made = self.documents.make(rendered) if self.documents is not None else None
        calendar = None
        if rendered.event is not None:
            from mailmerge.documents.calendar_file import invitation

            calendar = invitation(rendered, rendered.event, key)
        return self._builder.freeze(rendered, key=key, made=made, calendar=calendar)

    def planned(self, plan: PlanReader, row: PlanRow, *, keyed: bool) -> FrozenMessage:
        """Return the message of a planned row; where what is kept of it is damaged, make it once more.

        Args:
            plan: the plan.
            row: a row of it that has a message.
            keyed: whether rows are identified by a key column.

        Raises:
            PlanDamaged: it is damaged, and what is made now is another message.
            RowError: it is damaged, and the row cannot become a message any more.

        """
        assert row.message is not None
        try:
            return plan.message(row.message)
        except PlanDamaged:
            if not plan.has_messages:
                raise
            recipient = self.recipient(plan, row, keyed=keyed)
            frozen = self.freeze(self.render(recipient))
            if (frozen.digest, frozen.key) != (row.frozen, row.key):
                raise
            return frozen

    def recipient(self, plan: PlanReader, row: PlanRow, *, keyed: bool) -> Recipient:
        """Return the row of the list that a planned row was, with the others of its message."""
        key = row.key if keyed or self.groups else None
        others = [
            (other.n, Recipient(other.row, self._columns, other.cells, key)) for other in plan.others(row)
        ]
        return Recipient(row.row, self._columns, row.cells, key, others=tuple(others))

    def sent_by(self, account: Account | None, *, signed: bool = True) -> Composer:
        """Return the same for messages that are frozen already, with an account's return path and signatures.

        Raises:
            CampaignFileError: a DKIM key of the account cannot be used.

        """
        other = copy.copy(self)
        other._mail_from = account.return_path if account else None  # noqa: SLF001  of this class
        other._signatures = None  # noqa: SLF001
        if account and signed and account.dkim:
            from mailmerge.message.dkim_keys import read_signatures

            other._signatures = read_signatures(account.dkim)  # noqa: SLF001
        return other

    @property
    def signature_size(self) -> int:
        """How many octets the account's DKIM signatures add to a message at most."""
        if self._signatures is None:
            return 0
        message = self._templates
        names = ["From", "Sender", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", OWN_HEADER]
        names += ["MIME-Version", *(name for name, _ in message.headers)]
        names += ["List-Unsubscribe", "List-Unsubscribe-Post"] if message.unsubscribe else []
        names += ["Content-Type", "Content-Transfer-Encoding"]
        return self._signatures.octets(names, self.sender.rpartition("@")[2].rstrip("> "))

    def with_tokens(self, key: UnsubscribeKey | None) -> Composer:
        """Return the same for messages that go out: their unsubscribe links work, made with *key*."""
        other = copy.copy(self)
        other._key = key  # noqa: SLF001  of this class
        # No message may contain it as long as this lives.
        other._guard = Secret(key.secret.hex(), origin="the unsubscribe key") if key else None  # noqa: SLF001
        return other

    @property
    def token_key(self) -> UnsubscribeKey | None:
        """What makes the unsubscribe links of messages that go out; None: they have none, or stay here."""
        return self._key

    def thaw(self, frozen: FrozenMessage, *, message_id: str, date: datetime) -> Message:
        """Make the message that is sent.

        Raises:
            RowError: a file has changed since it was frozen, or is gone.

        """
        return self._thawer.thaw(
            frozen,
            message_id=message_id,
            date=date,
            mail_from=self._mail_from,
            key=self._key,
            signatures=self._signatures,
        )


def identity(rendered: Rendered) -> str:
    """Return the row's identity: its key column, else the address it goes to."""
    return rendered.recipient.key or rendered.to[0].address.normalised


def identifier(secret: bytes, frozen: FrozenMessage, generation: int = 0) -> str:
    """Return a message's Message-ID in the campaign that has this *secret*."""
    domain = frozen.sender.rpartition("@")[2]
    return message_id(secret, frozen.key, frozen.digest, generation, domain)


def _templates(file: CampaignFile, sender: str) -> MessageTemplates:
    message = file.message
    return MessageTemplates(
        base=_base(file),
        from_=sender,
        to=message.to,
        cc=message.cc,
        bcc=message.bcc,
        reply_to=message.reply_to,
        sender=message.sender,
        subject=message.subject,
        **_bodies(file),
        headers=tuple(message.headers.items()),
        calendar=dict(message.calendar),
        unsubscribe=message.unsubscribe,
        attachments=tuple(
            AttachmentRule(
                path=rule.path,
                name=rule.name,
                base=rule.base,
                missing=rule.missing,
                shared=rule.shared,
                guard=rule.guard,
                place=file.places.get(f"attach[{index}].{'template' if rule.template else 'path'}"),
                template=rule.template,
                password=rule.password,
            )
            for index, rule in enumerate(file.attach)
        ),
        locale=message.locale,
        group_by=file.data.group_by,
        vars=file.vars,
        places=file.places,
    )


class _BodyOptions(TypedDict):
    text: TemplateSource | None
    html: TemplateSource | None
    layout: Layout | None
    preheader: str | None
    inline_css: bool


def _bodies(file: CampaignFile) -> _BodyOptions:
    """Return what the bodies are made from: a Markdown file is both of them."""
    message = file.message
    text = _source(None if message.text == AUTO else message.text, "message.text")
    html = _source(message.html, "message.html")
    if html is None and is_markdown(text):
        html = text
    elif text is None and is_markdown(html) and message.text != AUTO:
        text = html
    chosen = message.layout or (DEFAULT_LAYOUT if is_markdown(html) else None)
    layout = None
    _refuse_unused(message, html=html is not None, layout=chosen is not None)
    if chosen is not None and html is not None:
        layout = Layout(_layout_source(chosen), dict(message.layout_vars))
    inline = layout is not None if message.inline_css is None else message.inline_css
    return _BodyOptions(text=text, html=html, layout=layout, preheader=message.preheader, inline_css=inline)


def _refuse_unused(message: MessageOptions, *, html: bool, layout: bool) -> None:
    """Refuse options that would have no effect.

    Raises:
        CampaignFileError: an option is about the HTML of a message that has none.

    """
    said = {
        "layout": message.layout is not None,
        "layout_vars": bool(message.layout_vars),
        "preheader": message.preheader is not None,
        "inline_css": bool(message.inline_css),
    }
    for name, is_said in said.items():
        if is_said and not html:
            hint = 'write html = "body.html", or a Markdown file: text = "body.md"'
            raise CampaignFileError(
                f"`message.{name}` is about HTML, and the message has none", code="T112", hint=hint
            )
        if is_said and name == "layout_vars" and not layout:
            hint = 'write layout = "letter" or "newsletter"'
            raise CampaignFileError("`message.layout_vars` needs a layout", code="T112", hint=hint)


def _layout_source(chosen: Path | str) -> TemplateSource:
    if chosen in LAYOUTS:
        return TemplateSource(name=str(chosen), path=stock_layout(str(chosen)))
    if isinstance(chosen, Path):
        return TemplateSource(name=str(chosen), path=chosen)
    return TemplateSource(name="message.layout", source=chosen)


def _own_files(file: CampaignFile) -> dict[str, str]:
    """Return what belongs to the campaign and to nobody's message."""
    data = file.data
    declared = file.document.tables.get("data")
    source = declared.get("source") if isinstance(declared, dict) else None
    files = {str(path): "a file of settings or secrets" for path in file.folder.glob(".env*")}
    if file.path is not None:
        files[str(file.path)] = "the campaign file"
    files[str(data.source)] = "the list"
    if isinstance(source, str):
        files[str(file.folder / Path(source).expanduser())] = "the list"
    return files | {str(path): "a list of people who are not written to" for path in data.suppress}


def _private_files(recipe: Recipe) -> PrivateFiles:
    layout = recipe.templates.layout
    bodies = (recipe.templates.text, recipe.templates.html, layout.source if layout else None)
    paths = [str(body.path) for body in bodies if body is not None and body.path is not None]
    paths += [str(rule.template) for rule in recipe.templates.attachments if rule.template is not None]
    return PrivateFiles(recipe.own_files, templates=paths, folders=recipe.own_folders)


def _base(file: CampaignFile) -> Path:
    """Return the folder that templates may include from and images are found in."""
    if file.path is not None:
        return file.folder
    body = next(part for part in (file.message.html, file.message.text) if part is not None)
    return fixed_folder(body) if isinstance(body, Path) else file.folder


def _source(body: Path | str | None, name: str) -> TemplateSource | None:
    if body is None:
        return None
    if isinstance(body, Path):
        return TemplateSource(name=str(body), path=body, source=None)
    return TemplateSource(name=name, source=str(body), markdown=isinstance(body, MarkdownText))


def _digest(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
