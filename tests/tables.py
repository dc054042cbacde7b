"""Tables as people have them: titles, facts, groups, units and notes around a list, in many languages.

`generated` makes any number of them from a seed. Words of some of the languages are known to no code of ours
(`UNKNOWN`): a list in them must be read rightly, or be asked about.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LINES = (Path(__file__).parent / "data" / "headings.txt").read_text("utf-8").splitlines()[1:]
LANGUAGES = {line.partition(";")[0]: line.partition(";")[2] for line in _LINES}
"""What columns, titles and totals are called in each language, separated by semicolons."""
UNKNOWN = ("cy", "ga", "sw", "eu")
"""Languages whose words are in no table of ours."""
_FIELDS = ("email", "name", "first", "last", "city", "phone", "date", "amount", "id")
_PEOPLE = (
    *("Ann Lee", "Jörg Müller", "Zoë Brontë", "Ana Peña", "Łukasz Żak", "Нина Орлова", "张伟", "佐藤 花子"),
    *("김민준", "Eva Novák", "Ali Yılmaz", "Bo Ek", "Ciara Ó Sé", "Noam Levi", "Total Recall", "Summer Day"),
)
_CITIES = ("Paris", "Köln", "São Paulo", "Praha", "北京", "東京", "Київ", "Cork", "Bergen", "New York")


class Table(NamedTuple):
    """A generated table: its rows as displayed, and which row has the headings."""

    rows: list[tuple[int, list[str]]]
    headings: int
    """The number of the row."""
    must_ask: bool = False
    """No program can know: it has to be asked about, or read as if row 1 had the headings."""
    kind: str = ""
    language: str = ""
    as_before: bool = False
    """The headings are in the first row, and cover all columns: it was always read so."""

    def is_refused(self, row: int) -> bool:
        """Return whether this row cannot be the headings: it has an address, or a column has none."""
        cells = dict(self.rows)[row]
        below = [texts for number, texts in self.rows if number > row]
        named = {at for at, cell in enumerate(cells) if cell.strip()}
        return "@" in "".join(cells) or any(
            cell for texts in below for at, cell in enumerate(texts) if at not in named
        )


class _Maker:
    """Makes the parts of one table."""

    def __init__(self, random: Random, language: str) -> None:
        self.random = random
        words = LANGUAGES[language].split(";")
        self.words = dict(zip((*_FIELDS, "title", "exported", "total"), words, strict=True))
        count = random.randint(1, 6)
        others = random.sample([field for field in _FIELDS if field != "email"], count)
        others = [
            field
            for field in others
            if self.words[field] not in {self.words[one] for one in others if one < field}
        ]
        at = random.randint(0, len(others))
        self.fields = [*others[:at], "email", *others[at:]]
        self.headings = self.respelt([self.words[field] for field in self.fields])
        if len(set(self.headings)) < len(self.headings):
            self.fields = list(dict.fromkeys(self.fields))
            self.headings = [
                f"{text} {at}" if text in self.headings[:at] else text
                for at, text in enumerate(self.headings)
            ]

    def respelt(self, headings: list[str]) -> list[str]:
        how = self.random.choice((str, str, str.upper, str.lower))
        return [how(text) for text in headings]

    @property
    def width(self) -> int:
        return len(self.fields)

    def person(self, *, address: bool = True) -> list[str]:
        random = self.random
        name = random.choice(_PEOPLE)
        first, _, last = name.partition(" ")
        day = (random.randint(1, 28), random.randint(1, 12), random.randint(1940, 2026))
        pattern = random.choice(("{0:02}.{1:02}.{2}", "{2}-{1:02}-{0:02}", "{1}/{0}/{2}"))
        suffix = random.choice(("com", "org"))
        cells = {
            "email": f"{random.choice('abcdefgh')}{random.randint(1, 10**6)}@example.{suffix}",
            "name": name,
            "first": first,
            "last": last or first,
            "city": random.choice(_CITIES),
            "phone": f"+{random.randint(1, 99)} {random.randint(100, 999)} {random.randint(10**5, 10**7)}",
            "date": pattern.format(*day),
            "amount": random.choice(("{}.50", "{},00", "{} €", "${}", "{}")).format(random.randint(1, 2000)),
            "id": random.choice(("{}", "{:05}", "M-{}")).format(random.randint(1, 99999)),
        }
        row = [cells[field] for field in self.fields]
        for at, field in enumerate(self.fields):
            if field == "email" and not address:
                row[at] = random.choice(("", "", "-", "n/a", "?"))
            elif field != "email" and random.random() < 0.12:
                row[at] = ""
        return row

    def people(self) -> list[list[str]]:
        random = self.random
        count = random.choice((1, 2, 3, 5, 8, 20, 45))
        missing = random.choice((0, 0, 0.1, 0.4))
        rows = [self.person(address=random.random() >= missing) for _ in range(count)]
        if not any("@" in cell for row in rows for cell in row):
            rows.append(self.person())
        return rows

    def line(self, text: str, at: int = 0) -> list[str]:
        """Make a row with one text, padded as a spreadsheet writes it, or not."""
        row = [""] * at + [text]
        return row + [""] * (self.width - len(row)) if self.random.random() < 0.6 else row

    def below(self) -> list[list[str]]:
        """Make what may be below a list."""
        random = self.random
        total = [""] * self.width
        if self.width > 1:
            at = next(at for at, field in enumerate(self.fields) if field != "email")
            total[at] = self.words["total"]
        return random.choice(
            ([], [], [total], [self.line("")], [self.line("* not paid yet")], [self.line("(2 rows)")])
        )


def _plain(make: _Maker) -> tuple[list[list[str]], int]:
    return [make.headings, *make.people(), *make.below()], 0


def _odd_headings(make: _Maker) -> tuple[list[list[str]], int]:
    """Headings that no table of words has, such as years and answers."""
    odd = [
        "2024",
        "2025",
        "%",
        "Q1",
        "X",
        "In",
        "class",
        "Kürzel",
        "…?",
        "Wie haben Sie von uns gehört? (bitte ankreuzen)",
    ]
    make.random.shuffle(odd)
    make.headings = [
        text if field == "email" else odd[at]
        for at, (field, text) in enumerate(zip(make.fields, make.headings, strict=True))
    ]
    if make.random.random() < 0.3:
        make.headings[make.fields.index("email")] = make.random.choice(
            ("Contact", "To", "who", "Kontaktdaten", "login")
        )
    return [make.headings, *make.people()], 0


def _single_column(make: _Maker) -> tuple[list[list[str]], int]:
    make.fields, make.headings = ["email"], [make.words["email"]]
    return [make.headings, *make.people()], 0


def _no_addresses(make: _Maker) -> tuple[list[list[str]], int]:
    """A list whose addresses are made by the template."""
    at = make.fields.index("email")
    rows = [[cell.partition("@")[0] for cell in row] for row in make.people()]
    make.headings[at] = "login"
    return [make.headings, *rows], 0


def _title(make: _Maker) -> tuple[list[list[str]], int]:
    above = [make.line(make.words["title"])]
    if make.random.random() < 0.5:
        above.append(make.line(make.words["exported"]))
    if make.random.random() < 0.5:
        above.append([])
    return [*above, make.headings, *make.people(), *make.below()], len(above)


def _centred_title(make: _Maker) -> tuple[list[list[str]], int]:
    above = [make.line(make.words["title"], make.random.randrange(make.width)), []]
    return [*above, make.headings, *make.people(), *make.below()], len(above)


def _title_about_mail(make: _Maker) -> tuple[list[list[str]], int]:
    """The title has the very word that headings are known by."""
    at = make.random.choice((0, make.fields.index("email")))
    above = [make.line(f"{make.words['email']}: {make.words['title']}", at)]
    return [*above, make.headings, *make.people()], len(above)


def _numbers_export(make: _Maker) -> tuple[list[list[str]], int]:
    above = [
        make.line(make.random.choice(("Table 1", "Tabelle 1", "Tableau 1", "表格 1", "Sheet1 - Table 1")))
    ]
    return [*above, make.headings, *make.people(), *make.below()], 1


def _comments(make: _Maker) -> tuple[list[list[str]], int]:
    above = [["# exported 2026-03-05 10:00"], ["# query: select * from members"]][: make.random.randint(1, 2)]
    return [*above, make.headings, *make.people()], len(above)


def _facts(make: _Maker) -> tuple[list[list[str]], int]:
    """A block of facts, two cells a line, sometimes with an address."""
    facts = [
        ["Report:", make.words["title"]],
        ["Date", "2026-03-05"],
        ["Author:", make.random.choice(("Kim Poe", "office@example.org"))],
        [make.words["exported"], "12:45"],
        ["Filter", "active = 1"],
    ]
    above = make.random.sample(facts, make.random.randint(1, 4))
    above = [row + [""] * (make.width - 2) if make.random.random() < 0.6 else row for row in above]
    if make.random.random() < 0.5:
        above.append([])
    return [*above, make.headings, *make.people(), *make.below()], len(above)


def _letterhead(make: _Maker) -> tuple[list[list[str]], int]:
    """Rows of a logo, and the address of who made the table."""
    above = [
        make.line("ACME e.V."),
        make.line("Hauptstr. 5, 01067 Dresden"),
        make.line("Tel. +49 351 123456"),
    ]
    if make.random.random() < 0.5:
        above.append(make.line("info@acme.example"))
    if make.width > 1 and make.random.random() < 0.5:
        above[0] = ["ACME e.V.", *[""] * (make.width - 2), "05.03.2026"]
    return [*above, [], make.headings, *make.people(), *make.below()], len(above) + 1


def _groups(make: _Maker) -> tuple[list[list[str]], int]:
    """A row of groups above the headings."""
    group = [""] * make.width
    for at in make.random.sample(range(make.width), max(1, make.width // 2)):
        group[at] = make.random.choice(("Contact", "Person", "Address", "Fees", "Kontakt", "Adresse"))
    return [group, make.headings, *make.people(), *make.below()], 1


def _indented(make: _Maker) -> tuple[list[list[str]], int]:
    """A table that begins in another column than the first."""
    rows = [[], [], make.headings, *make.people(), *make.below()]
    offset = make.random.randint(1, 3)
    if make.random.random() < 0.5:
        rows[0] = [make.words["title"]]
    return [[""] * offset + row if at else row for at, row in enumerate(rows)], 2


def _units(make: _Maker) -> tuple[list[list[str]], int]:
    units = [
        "(EUR)" if field == "amount" else "dd.mm.yyyy" if field == "date" else "" for field in make.fields
    ]
    above = [make.line(make.words["title"])] if make.random.random() < 0.5 else []
    return [*above, make.headings, units, *make.people()], len(above)


def _page_breaks(make: _Maker) -> tuple[list[list[str]], int]:
    people = make.people() + make.people()
    at = make.random.randint(1, len(people) - 1)
    above = [make.line(make.words["title"])] if make.random.random() < 0.5 else []
    return [*above, make.headings, *people[:at], make.headings, *people[at:]], len(above)


def _ruled(make: _Maker) -> tuple[list[list[str]], int]:
    """As database clients draw it."""
    return [
        make.headings,
        ["-" * max(len(text), 3) for text in make.headings],
        *make.people(),
        ["(3 rows affected)"],
    ], 0


def _legend(make: _Maker) -> tuple[list[list[str]], int]:
    legend = (["M = member", "G = guest", "H = honorary", "", "", "", "", ""])[: max(make.width - 1, 1)]
    return [legend, [], make.headings, *make.people()], 2


def _split_headings(make: _Maker) -> tuple[list[list[str]], int]:
    """Headings in two rows, where a cell of the upper one applies to both."""
    upper = [
        "" if field in {"email", "phone"} else text
        for field, text in zip(make.fields, make.headings, strict=True)
    ]
    lower = [
        text if field in {"email", "phone"} else ""
        for field, text in zip(make.fields, make.headings, strict=True)
    ]
    return [upper, lower, *make.people()], 1


def _bilingual(make: _Maker) -> tuple[list[list[str]], int]:
    other = LANGUAGES[make.random.choice(("en", "fr", "zh", "ru"))].split(";")
    second = [other[_FIELDS.index(field)] for field in make.fields]
    return [make.headings, [f"{text}*" for text in second], *make.people()], 0


_AS_BEFORE: tuple[Callable[[_Maker], tuple[list[list[str]], int]], ...] = (
    *(_plain, _plain, _odd_headings, _single_column, _no_addresses, _page_breaks),
)
_OTHERS = (
    *(_title, _title, _centred_title, _title_about_mail, _numbers_export, _comments, _facts, _facts),
    *(_letterhead, _groups, _indented, _units, _ruled, _legend, _split_headings, _bilingual),
)


def generated(seed: int, count: int) -> Iterator[Table]:
    """Yield *count* tables, the same for the same *seed*."""
    random = Random(seed)
    for _ in range(count):
        language = random.choice(list(LANGUAGES))
        layout = random.choice(_AS_BEFORE + _OTHERS)
        rows, at = layout(_Maker(random, language))
        numbered = [(number, row) for number, row in enumerate(rows, 1) if any(map(str.strip, row))]
        covered = at == 0 and layout in {*_AS_BEFORE, _ruled, _units}
        yield Table(numbered, at + 1, layout is _bilingual, layout.__name__[1:], language, covered)
