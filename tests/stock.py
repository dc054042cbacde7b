"""The messages that the stock templates make of a small list, and pages for a browser made of them."""

from __future__ import annotations

import base64
import re
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import TYPE_CHECKING, get_args

from attachment_corpus import pdf
from mailmerge import Campaign
from mailmerge.campaign.scaffold import make_campaign
from mailmerge.options import StockTemplate
from mailmerge.recipients import open_list

if TYPE_CHECKING:
    from pathlib import Path

PEOPLE = (
    "name,email,invoice,amount,due\n"
    'Ana Souza,ana@example.org,2026-0301,"€1,234.50",2026-03-05\n'
    'Jörg Müller,joerg@example.com,2026-0302,"€99.00",2026-03-06\n'
)
TYPES = {"due": "date"}
WITH_HTML: tuple[StockTemplate, ...] = tuple(kind for kind in get_args(StockTemplate) if kind != "plain")


def stock_campaign(folder: Path, kind: StockTemplate, people: str = PEOPLE) -> Campaign:
    """Make a campaign of a stock template, with the file that each row gets where it gets one."""
    source = folder.parent / f"{folder.name}.csv"
    source.write_text(people, encoding="utf-8")
    types = TYPES if "due" in people.partition("\n")[0] else {}
    recipients = open_list(source, types=types)
    made = make_campaign(folder, recipients, kind=kind, reading={"types": types or None})
    if made.file_column:
        (folder / "attachments").mkdir()
        for recipient in recipients:
            (folder / f"attachments/{recipient.fields[made.file_column]}.pdf").write_bytes(pdf("Invoice"))
    environ = {"MAILMERGE_STATE_DIR": str(folder.parent / "state")}
    return Campaign.load(folder, environ=environ)


MARKDOWN = """\
# A headline

Dear {{ name }},

**What matters**, *emphasis*, a [link to read on](https://example.org) and `code`.

> A quotation that somebody said.

## What happens next

1. First one thing
2. Then another

| Item | Amount |
|------|--------|
| {{ invoice }} | {{ amount|money("EUR") }} |

### A small heading

```
code {{ name }}
```

---

Kind regards
"""


def layout_campaign(folder: Path, layout: str, colour: str) -> Campaign:
    """Make a campaign of Markdown with all that it has, in a stock layout that is told all it asks for."""
    stock_campaign(folder, "letter")
    (folder / "body.md").write_text(MARKDOWN, encoding="utf-8")
    toml = folder / "campaign.toml"
    told = f'colour = "{colour}", button = "Pay the invoice", button_url = "https://example.org/pay"'
    text = toml.read_text("utf-8").replace('layout = "letter"', f'layout = "{layout}"')
    toml.write_text(text.replace('colour = "#0b6b59"', told), encoding="utf-8")
    return Campaign.load(folder, environ={"MAILMERGE_STATE_DIR": str(folder.parent / "state")})


def first_message(campaign: Campaign) -> EmailMessage:
    """Return the message of the first row, as a mail program parses it."""
    message = BytesParser(EmailMessage, policy=default).parsebytes(next(iter(campaign.messages())).content)
    assert isinstance(message, EmailMessage)
    return message


def page(message: EmailMessage) -> str:
    """Return the HTML as a mail program shows it: the pictures of the message in their places."""
    html = message.get_body(("html",))
    assert html is not None
    parts = [part for part in message.walk() if isinstance(part, EmailMessage) and part["Content-ID"]]
    pictures = {str(part["Content-ID"]).strip("<>"): part for part in parts}

    def inside(found: re.Match[str]) -> str:
        part = pictures[found[1]]
        data = base64.b64encode(part.get_content()).decode()
        return f"data:{part.get_content_type()};base64,{data}"

    return re.sub(r"cid:([^\"')\s]+)", inside, str(html.get_content()))
