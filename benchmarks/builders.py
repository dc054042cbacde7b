"""From one row to the bytes of one message: ours, and how users of other libraries do the same.

Each maker takes a `Mailing` and a folder to put files into, and returns a function from a row to the finished
message. Everybody sets the same headers and has the templates compiled once, if the library allows it.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from email.generator import BytesGenerator
from email.utils import formataddr, formatdate
from typing import TYPE_CHECKING, Any

import fixtures
import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message
    from pathlib import Path

    from fixtures import Mailing, Row

    Build = Callable[[Row], Any]
    Render = Callable[[Row], tuple[str, str, str | None]]


def floor(mailing: Mailing, _folder: Path) -> Build:
    """Render the templates in Jinja2's own sandbox, and nothing else: what every ratio is measured by."""
    return _renderer(mailing, ImmutableSandboxedEnvironment)


def unsandboxed(mailing: Mailing, _folder: Path) -> Build:
    """Render the templates without the sandbox."""
    return _renderer(mailing, jinja2.Environment)


def _renderer(mailing: Mailing, environment: type[jinja2.Environment]) -> Render:
    plain = environment(undefined=jinja2.StrictUndefined)
    escaping = environment(undefined=jinja2.StrictUndefined, autoescape=True)
    subject = plain.from_string(mailing.subject, mailing.variables)
    text = plain.from_string(mailing.text, mailing.variables)
    source = mailing.html_with("cid:logo@campaign")
    html = escaping.from_string(source, mailing.variables) if source else None

    def render(row: Row) -> tuple[str, str, str | None]:
        return subject.render(row), text.render(row), html.render(row) if html else None

    return render


def ours(mailing: Mailing, folder: Path) -> Build:
    """Render, freeze and thaw as a campaign does, with the digest that its ledger records; in segments."""
    from mailmerge.message import MessageBuilder, Thawer, message_id
    from mailmerge.model import AttachmentRule, Columns, Recipient
    from mailmerge.render import MessageTemplates, Renderer, TemplateSource

    names = tuple(next(fixtures.rows(1)))
    columns = Columns(names, names)
    if mailing.image:
        (folder / "logo.png").write_bytes(mailing.image)
    attachments = (AttachmentRule("brochure.pdf", base=folder),) if mailing.pdf else ()
    if mailing.pdf:
        (folder / "brochure.pdf").write_bytes(mailing.pdf)
    html = mailing.html_with("logo.png")
    renderer = Renderer(
        MessageTemplates(
            base=folder,
            from_=f"{fixtures.SENDER_NAME} <{fixtures.SENDER}>",
            to=("{{ name }} <{{ email }}>",),
            subject=mailing.subject,
            text=TemplateSource("text", source=mailing.text),
            html=TemplateSource("html", source=html) if html else None,
            headers=(
                ("List-Unsubscribe", fixtures.UNSUBSCRIBE),
                ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
            ),
            attachments=attachments,
            vars=mailing.variables,
        ),
        columns,
    )
    builder = MessageBuilder(
        version="benchmark",
        base=folder,
        rules=attachments,
        constants=renderer.constant_attachments,
        static=renderer.static_chunks(),
    )
    thawer, secret, date = Thawer(), b"benchmark", datetime.now(UTC).astimezone()

    def build(row: Row) -> object:
        rendered = renderer.render(Recipient(2, columns, tuple(row.values())))
        key = rendered.to[0].address.normalised
        frozen = builder.freeze(rendered, key=key)
        identifier = message_id(secret, key, frozen.digest, 0, rendered.from_.address.domain)
        return thawer.thaw(frozen, message_id=identifier, date=date)

    return build


def stdlib(mailing: Mailing, folder: Path) -> Build:
    """Build with `email.message.EmailMessage`."""
    from email import policy
    from email.headerregistry import Address
    from email.message import EmailMessage

    render = floor(mailing, folder)

    def build(row: Row) -> bytes:
        subject, text, html = render(row)
        message = EmailMessage(policy=policy.SMTP)
        message["From"] = Address(fixtures.SENDER_NAME, addr_spec=fixtures.SENDER)
        message["To"] = Address(row["name"], addr_spec=row["email"])
        message["Subject"] = subject
        message["Date"] = formatdate()
        message["Message-ID"] = f"<{row['token']}@example.com>"
        for name, value in _more_headers(row).items():
            message[name] = value
        message.set_content(text)
        if html:
            message.add_alternative(html, subtype="html")
        if mailing.image:
            message.get_payload()[1].add_related(  # type: ignore[index, union-attr]
                mailing.image,
                "image",
                "png",
                cid="<logo@campaign>",
                filename="logo.png",
                disposition="inline",
            )
        if mailing.pdf:
            message.add_attachment(
                mailing.pdf, maintype="application", subtype="pdf", filename="brochure.pdf"
            )
        return message.as_bytes(policy=policy.SMTP)

    return build


def django(mailing: Mailing, folder: Path) -> Build:
    """Build with Django's EmailMultiAlternatives."""
    from email.mime.image import MIMEImage

    from django.conf import settings

    if not settings.configured:
        settings.configure()
    from django.core.mail import EmailMultiAlternatives

    render = floor(mailing, folder)
    sender = formataddr((fixtures.SENDER_NAME, fixtures.SENDER))

    def build(row: Row) -> bytes:
        subject, text, html = render(row)
        to = [formataddr((row["name"], row["email"]))]
        message = EmailMultiAlternatives(subject, text, sender, to, headers=_more_headers(row))
        if html:
            message.attach_alternative(html, "text/html")
        if mailing.pdf:
            message.attach("brochure.pdf", mailing.pdf, "application/pdf")
        if mailing.image:
            image = MIMEImage(mailing.image, "png")
            image["Content-ID"] = "<logo@campaign>"
            message.attach(image)
        return bytes(message.message().as_bytes(linesep="\r\n"))

    return build


def redmail(mailing: Mailing, folder: Path) -> Build:
    """Build with redmail, its templates loaded by name, which is its fast way."""
    from redmail import EmailSender

    plain = jinja2.Environment()  # noqa: S701  a subject is not HTML
    render_subject = plain.from_string(mailing.subject, mailing.variables).render
    sender = EmailSender(host="localhost", port=0)
    templates = folder / "redmail"
    templates.mkdir(exist_ok=True)
    (templates / "body.txt").write_text(mailing.text, "utf-8")
    html = mailing.html_with("{{ logo.src }}")
    options: dict[str, Any] = {"text_template": "body.txt"}
    if html:
        (templates / "body.html").write_text(html, "utf-8")
        options["html_template"] = "body.html"
    sender.set_template_paths(text=str(templates), html=str(templates))
    if mailing.pdf:
        options["attachments"] = {"brochure.pdf": mailing.pdf}
    if mailing.image:
        (folder / "logo.png").write_bytes(mailing.image)
        options["body_images"] = {"logo": str(folder / "logo.png")}

    def build(row: Row) -> bytes:
        return _flattened(
            sender.get_message(
                subject=render_subject(row),
                sender=formataddr((fixtures.SENDER_NAME, fixtures.SENDER)),
                receivers=[formataddr((row["name"], row["email"]))],
                body_params={**mailing.variables, **row},
                headers=_more_headers(row),
                **options,
            )
        )

    return build


def rival(mailing: Mailing, folder: Path) -> Build:
    """Build with awdeorio's mailmerge, whose own template engine settings apply."""
    from mailmerge.template_message import TemplateMessage

    template = folder / "mailmerge_template.txt"
    template.write_text(rival_template(mailing), "utf-8")
    for name, data in (("brochure.pdf", mailing.pdf), ("logo.png", mailing.image)):
        if data:
            (folder / name).write_bytes(data)
    message = TemplateMessage(template)

    def build(row: Row) -> bytes:
        _, _, made = message.render({**mailing.variables, **row})
        return bytes(made.as_string().encode("utf-8", "surrogateescape"))

    return build


def rival_template(mailing: Mailing) -> str:
    """Return the newsletter as one template file of awdeorio's mailmerge."""
    head = [
        "TO: {{ name }} <{{ email }}>",
        f"FROM: {fixtures.SENDER_NAME} <{fixtures.SENDER}>",
        f"SUBJECT: {mailing.subject}",
        f"LIST-UNSUBSCRIBE: {fixtures.UNSUBSCRIBE}",
        "LIST-UNSUBSCRIBE-POST: List-Unsubscribe=One-Click",
    ]
    if mailing.pdf:
        head.append("ATTACHMENT: brochure.pdf")
    if mailing.image:
        head.append("ATTACHMENT: logo.png")
    html = mailing.html_with("logo.png")
    if html is None:
        return "\n".join([*head, "", mailing.text])
    head += ["MIME-Version: 1.0", 'Content-Type: multipart/alternative; boundary="boundary"']
    plain = "Content-Type: text/plain; charset=utf-8\n\n" + mailing.text
    rich = "Content-Type: text/html; charset=utf-8\n\n" + html
    return "\n".join([*head, "", f"--boundary\n{plain}", f"--boundary\n{rich}", "--boundary--", ""])


def _more_headers(row: Row) -> dict[str, str]:
    return {
        "List-Unsubscribe": fixtures.UNSUBSCRIBE.replace("{{ token }}", row["token"]),
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def _flattened(message: Message) -> bytes:
    """Turn a message into bytes as `smtplib.SMTP.send_message` does."""
    with io.BytesIO() as file:
        BytesGenerator(file).flatten(message, linesep="\r\n")
        return file.getvalue()


MAKERS = {
    "floor": floor,
    "unsandboxed": unsandboxed,
    "ours": ours,
    "stdlib": stdlib,
    "django": django,
    "redmail": redmail,
    "rival": rival,
}
