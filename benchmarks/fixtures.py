"""What everybody is given to do: one newsletter, one short notice, their rows and files, all from a seed.

The templates keep to what Jinja2 and nunjucks have in common.
"""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Row = dict[str, str]

VARIANTS = {
    "plain": "newsletter",
    "pdf": "newsletter + shared 200 KB PDF",
    "image": "newsletter + 30 KB inline image",
    "short": "short text",
}
SENDER_NAME, SENDER = "Kaffee & Co. 咖啡", "news@example.com"
UNSUBSCRIBE = "<https://news.example.com/u/{{ token }}>, <mailto:unsub@example.com?subject={{ token }}>"
SHORT_SUBJECT = "Your booking on {{ renewal }}"
SHORT_TEXT = "Hello {{ first_name }},\n\nyour table is booked for {{ renewal }}.\nSee you in {{ city }}!\n"

_FOLDER = Path(__file__).parent / "newsletter"
_LOGO = "https://cdn.example.com/logo.png"

_FIRST = [
    "Anna",
    "Jörg",
    "Zoë",
    "Łukasz",
    "Siobhán",
    "伟",
    "秀英",
    "Олег",
    "محمد",
    "José",
    "Bob",
    "さくら",
    "Emma🎉",
]
_LAST = [
    "Smith",
    "Müller",
    "O'Brien",
    "王",
    "Иванов",
    "García",
    "Nguyễn",
    "Ødegård",
    "田中",
    "김",
    "Lee",
    "D'Angelo",
]
_COMPANY = ["Acme, Inc.", "北京科技有限公司", "Müller & Söhne GmbH", "R&D <Labs>", "Globex", "Ünïcode Ltd"]
_CITY = ["München", "北京", "New York", "São Paulo", "Kraków", "Paris", "東京", "Dublin"]
_PRODUCT = ["Coffee beans 1 kg", "Tea 茶", "Crème brûlée set", 'Mug "Zürich"', "Pen & pencil", "Backpack 20L"]
_TAGS = ["coffee", "tea", "travel", "音乐", "design", "books", "küche"]


def rows(count: int, seed: int = 7) -> Iterator[Row]:
    """Yield recipients with names in many scripts; the same ones for the same seed."""
    dice = random.Random(seed)
    for number in range(count):
        first, last = dice.choice(_FIRST), dice.choice(_LAST)
        items = ";".join(
            f"{dice.choice(_PRODUCT)}|{dice.randint(1, 5)}|{dice.randint(100, 9900) / 100:.2f}"
            for _ in range(dice.randint(0, 5))
        )
        yield {
            "id": f"{number:07d}",
            "email": f"user{number:07d}@example.com",
            "first_name": first,
            "last_name": last,
            "name": f"{first} {last}",
            "company": dice.choice(_COMPANY) if dice.random() < 0.6 else "",
            "city": dice.choice(_CITY),
            "tier": dice.choice(["gold", "silver", "bronze", ""]),
            "points": str(dice.randint(0, 5000)),
            "items": items,
            "tags": ",".join(dice.sample(_TAGS, dice.randint(0, 4))),
            "token": f"{dice.getrandbits(96):024x}",
            "renewal": f"2026-0{dice.randint(1, 9)}-1{dice.randint(0, 9)}",
        }


def write_list(path: Path, count: int) -> Path:
    """Write *count* rows as CSV, unless they are there from an earlier run."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        _write_rows(csv.writer(file), rows(count))
    return unfinished.rename(path)


def _write_rows(writer: Any, recipients: Iterable[Row]) -> None:
    for number, row in enumerate(recipients):
        if number == 0:
            writer.writerow(row)
        writer.writerow(row.values())


@dataclass(frozen=True)
class Mailing:
    """One of the four kinds of message."""

    variant: str
    subject: str
    text: str
    html: str | None
    variables: dict[str, Any]
    pdf: bytes | None = None
    """The shared attachment."""
    image: bytes | None = None
    """The inline image."""

    def html_with(self, logo: str) -> str | None:
        """Return the HTML template with *logo* as the source of its image, where that is inline."""
        return self.html and self.html.replace("@@LOGO@@", logo if self.variant == "image" else _LOGO)


def mailing(variant: str) -> Mailing:
    """Return one of `VARIANTS`."""
    if variant == "short":
        return Mailing(variant, SHORT_SUBJECT, SHORT_TEXT, None, {})
    pdf = _noise(b"%PDF-1.4\n", 200_000) if variant == "pdf" else None
    image = _noise(b"\x89PNG\r\n\x1a\n", 30_000) if variant == "image" else None
    subject, text, html = (_read(name) for name in ("subject.txt", "body.txt", "body.html"))
    return Mailing(variant, subject.strip(), text, html, json.loads(_read("vars.json")), pdf, image)


def _read(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


def _noise(head: bytes, size: int) -> bytes:
    return head + random.Random(size).randbytes(size - len(head))
