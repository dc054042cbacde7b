"""Files that go to people, made from a seed: ten kinds, with all that makes it hard to tell whose they are.

In the lists: names that are words (Long, May, Li), families with one surname and address, two people of one
name, short and numeric keys, compound and accented names, names in scripts without spaces. In the files: the
sender and a teacher, who are in the list themselves, class lists, amounts and dates, names reversed, divided,
spaced, without accents, or in pieces (NFD); and some files that name nobody.
"""

from __future__ import annotations

import io
import random
import unicodedata
import zipfile
import zlib
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KINDS = {
    "grades": ".pdf",
    "payslips": ".pdf",
    "invoices": ".docx",
    "certificates": ".pdf",
    "contracts": ".pdf",
    "statements": ".xlsx",
    "bookings": ".csv",
    "confirmations": ".html",
    "letters": ".txt",
    "assessments": ".pdf",
}
"""Kinds of documents, and the suffix of their files."""


def _words(text: str) -> list[str]:
    return text.split()


_FIRST = _words("""
    Anna Ben Chen Dora Emil Fatma Goran Hana Ivan Jutta Jörg Zoë Élodie Łukasz Søren Åsa Nuño Íñigo
    Anna-Maria Jean-Luc Will Mark Grant May June April Rose Bill Art Max Ida Uwe Li Bo Ng Grace Faith
    Hope Sue Victor Dean Earl Guy Jack Pat Ray Rob Sandy Stew Chuck Jesús Noémie Gülşen Čeněk Željko
    Kateřina
""")
_LAST = _words("""
    Meyer Schulz Wang Kaya Novák Costa Lind Moreau Rossi Berg Müller Mueller Weiß Groß Long Li May
    Grant Price Day Hall Hill King Young Cook Page Bill Best Short Good Love Rich Banks Brown Green
    White Black Stone Müller-Lüdenscheidt O'Brien D'Angelo van-den-Berg Øster Łoś Çelik Nguyễn Garçon
    Ibáñez Schäfer Köhler Sjöström Đorđević Şahin Ångström Quick Field Wood Church Bishop Baker Cash
    Case Major Strong
""")
_CJK = _words("""
    王伟 李娜 张敏 刘洋 欧阳明月 山田太郎 佐藤花子 鈴木一郎 高橋美咲 김민준 이서연 박지훈 陳美玲 黃志明 林建宏
""")
_FILLER = [
    "It will be paid in May as long as the mark is good. The page was read in April, and the bill is for",
    "a long day in the hall. We grant this price for a short case only; may I ask you to cook with care.",
    "Rich or young, you will love the green hill. In March 2025 a total of 117 items at 1.203,50 was booked.",
    "Max. 30 days. Call 030 117 1203 or 0049 30 2025. Room 12, page 3 of 7, article 4711, VAT 19 %.",
    "Li-ion batteries, 100 g, art. 815, until 12.06.2026. Will Long-Term Interest Rise? A hope for all.",
]
_MONTHS = _words("""
    January February March April May June July August September October November December
""")


class Corpus(NamedTuple):
    """A list of people, and what is in the file of each."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    texts: list[str]
    named: list[bool]
    """Whether the file says whose it is by more than a surname."""


class Person(NamedTuple):
    """Somebody in the list."""

    key: str
    first: str
    last: str
    address: str

    @property
    def name(self) -> str:
        """The full name."""
        return f"{self.first} {self.last}".strip()


def corpus(kind: str, seed: int, size: int) -> Corpus:
    """Make a list of so many people, and their files."""
    dice = random.Random(f"{kind} {seed}")
    people = _people(dice, size)
    sender, teachers = people[0], people[1:4]
    texts, named = [], []
    for number, person in enumerate(people):
        anonymous = number > 4 and dice.random() < 0.02
        if anonymous:
            texts.append("\n".join(dice.sample(_FILLER, 3)))
        else:
            texts.append(_MAKERS[kind](dice, person, people, sender, dice.choice(teachers)))
        named.append(not anonymous and number >= 4)  # what everybody's file names tells nothing
    rows = [(one.address, one.key, one.first, one.last) for one in people]
    return Corpus(("email", "number", "first name", "last name"), rows, texts, named)


def _people(dice: random.Random, size: int) -> list[Person]:
    style = dice.choice(["E{:04}", "{}", "{}", "K-{:05}", "{:03}/25", "A{}", "{:06}", "{:02x}"])
    found: list[Person] = []
    for number in range(size):
        key = style.format(number + (1000 if style == "E{:04}" else 1))
        roll = dice.random()
        if roll < 0.08:
            first, last = dice.choice(_CJK), ""
        elif roll < 0.14 and found and found[-1].last:  # of the same family
            first, last = dice.choice(_FIRST), found[-1].last
        elif roll < 0.15 and found:  # of the same name
            first, last = found[-1].first, found[-1].last
        else:
            first, last = dice.choice(_FIRST), dice.choice(_LAST)
        address = f"p{number}@example.org"
        if 0.08 <= roll < 0.12 and found and found[-1].last:
            address = found[-1].address
        found.append(Person(key, first, last, address))
    return found


# --- what they are called -----------------------------------------------------------------------------------


def _written(dice: random.Random, person: Person) -> str:
    """Write a name as one program or another does."""
    if not person.last:
        return dice.choice(
            [person.first, person.first + "様", f"致 {person.first} 先生", " ".join(person.first)]
        )
    first, last = person.first, person.last
    plain = {"ü": "ue", "ö": "oe", "ä": "ae", "ß": "ss"}
    return dice.choice(
        [
            person.name,
            person.name,
            f"{last}, {first}",
            f"{last.upper()} {first}",
            f"Dr. {first} {last}",
            f"{first}\n{last}",
            f"{first}\u00a0{last}",
            unicodedata.normalize("NFD", person.name),
            "".join(plain.get(sign, sign) for sign in person.name),
            person.name.replace("fi", "\ufb01").replace("ff", "\ufb00"),
            person.name.replace("-", "-\n"),
            person.name.upper(),
            _divided(person.name),
        ]
    )


def _divided(name: str) -> str:
    """Divide the last word at the end of a line, if it is long enough."""
    first, _, last = name.rpartition(" ")
    return f"{first} {last[:3]}-\n{last[3:]}" if len(last) > 5 and last.isalpha() else name


def _amounts(dice: random.Random, lines: int) -> str:
    return "\n".join(
        f"{dice.randrange(1, 40)} x {dice.choice(['Item', 'Hours', 'Long rolls', 'May bread'])} "
        f"{dice.randrange(1, 4000)},{dice.randrange(100):02} EUR "
        f"{dice.randrange(1, 29)}.{dice.randrange(1, 13)}.2025"
        for _ in range(lines)
    )


def _grades(dice: random.Random, one: Person, people: list[Person], sender: Person, teacher: Person) -> str:
    marks = "\n".join(f"{subject} {dice.randrange(1, 7)}" for subject in ("Maths", "Art", "Music", "English"))
    ranking = ""
    if dice.random() < 0.1:
        ranking = "\n".join(f"{place} {other.name}" for place, other in enumerate(people[:60], 1))
    return (
        f"Report\nPupil: {_written(dice, one)}\nNo. {one.key}\n{marks}\nTeacher: {teacher.name}\n"
        f"{ranking}\n{sender.name}, Head"
    )


def _payslips(dice: random.Random, one: Person, people: list[Person], sender: Person, teacher: Person) -> str:
    month = dice.choice(_MONTHS)
    return (
        f"Payslip {month} 2025\n{_written(dice, one)}\nStaff no.: {one.key}\n{_amounts(dice, 9)}\n"
        f"Contact {sender.name} {sender.address}"
    )


def _invoices(dice: random.Random, one: Person, people: list[Person], sender: Person, teacher: Person) -> str:
    who = _written(dice, one)
    return (
        f"{who}\nLong Street 4\n\nInvoice 2025/{dice.randrange(100, 999)}\nCustomer {one.key}\n"
        f"{_amounts(dice, 5)}\nYour contact: {teacher.name}, {teacher.address}"
    )


def _certificates(
    dice: random.Random, one: Person, people: list[Person], sender: Person, teacher: Person
) -> str:
    name = " ".join(one.name.replace(" ", "")) if dice.random() < 0.5 and one.last else one.name
    return (
        f"CERTIFICATE\n{name}\nhas taken part in May 2025\nNumber {one.key}\n"
        f"{dice.choice(_FILLER)}\n{sender.name}"
    )


def _contracts(
    dice: random.Random, one: Person, people: list[Person], sender: Person, teacher: Person
) -> str:
    pages = "\n\f".join("\n".join(dice.choices(_FILLER, k=12)) for _ in range(3))
    return f"{pages}\nbetween {sender.name}\nand {_written(dice, one)} ({one.address}, {one.key})\n\f{pages}"


def _statements(
    dice: random.Random, one: Person, people: list[Person], sender: Person, teacher: Person
) -> str:
    lines = _amounts(dice, 20).replace(" ", "\t")
    return f"Name\t{one.name}\nNumber\t{one.key}\n{lines}"


def _bookings(dice: random.Random, one: Person, people: list[Person], sender: Person, teacher: Person) -> str:
    row = f"{one.last};{one.first};{one.key};{one.address}"
    return "name;first;number;email;date\n" + "\n".join(f"{row};{n}.5.2025;{n * 10},50" for n in range(1, 6))


def _confirmations(
    dice: random.Random, one: Person, people: list[Person], sender: Person, teacher: Person
) -> str:
    return (
        f"Dear {one.first},\nyou are in. Login: {one.address}\n{_written(dice, one)}\n"
        f"{dice.choice(_FILLER)}\nYours, {sender.name} {sender.address}"
    )


def _letters(dice: random.Random, one: Person, people: list[Person], sender: Person, teacher: Person) -> str:
    title = dice.choice(["Mr", "Ms", "Herr", "Frau Dr."])
    who = f"{one.first}\n{one.last}" if dice.random() < 0.2 else one.name
    friend = f"Best wishes to {dice.choice(people).first}." if dice.random() < 0.2 else ""
    return (
        f"{who}\n{one.address}\n\nDear {title} {one.last or one.first},\n{dice.choice(_FILLER)}\n"
        f"{friend}\n{teacher.name}"
    )


def _assessments(
    dice: random.Random, one: Person, people: list[Person], sender: Person, teacher: Person
) -> str:
    text = "\n".join(dice.choices(_FILLER, k=6))
    shown = f"{one.first[0]}. {one.last}" if one.last else one.first
    other = f"Works with {dice.choice(people).name}." if dice.random() < 0.15 else ""
    return (
        f"Assessment of {_written(dice, one)}\n{shown} {one.address}\n{text}\n{other}\n\f{text}\n"
        f"By {teacher.name} ({teacher.key})"
    )


_MAKERS: dict[str, Callable[[random.Random, Person, list[Person], Person, Person], str]] = {
    "grades": _grades,
    "payslips": _payslips,
    "invoices": _invoices,
    "certificates": _certificates,
    "contracts": _contracts,
    "statements": _statements,
    "bookings": _bookings,
    "confirmations": _confirmations,
    "letters": _letters,
    "assessments": _assessments,
}


def swapped(made: Corpus, seed: int, count: int) -> tuple[list[int], set[int]]:
    """Swap so many files in pairs: give whose text each row gets, and which rows get another's."""
    dice = random.Random(seed)
    order = list(range(len(made.rows)))
    chosen = dice.sample([n for n in order if made.named[n]], count)
    for one, other in zip(chosen[::2], chosen[1::2], strict=True):
        order[one], order[other] = order[other], order[one]
    return order, set(chosen)


# --- files --------------------------------------------------------------------------------------------------


def file_of(suffix: str, text: str) -> bytes:
    """Make a file that shows the given text; pages end with a form feed."""
    return _WRITERS[suffix](text)


def pdf(text: str) -> bytes:
    """Make a PDF as many programs do: letters by number, and a table that says what they are."""
    pages = text.split("\f")
    count = len(pages)
    to_unicode = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
        b"1 begincodespacerange <0000> <FFFF> endcodespacerange\n"
        b"1 beginbfrange <0000> <FFFF> <0000> endbfrange\nendcmap end end"
    )
    kids = " ".join(f"{7 + 2 * n} 0 R" for n in range(count))
    font = b"<< /Type /Font /BaseFont /X "
    system = b"<< /Registry (Adobe) /Ordering (Identity) /Supplement 0 >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
        font + b"/Subtype /Type0 /Encoding /Identity-H /DescendantFonts [4 0 R] /ToUnicode 6 0 R >>",
        font + b"/Subtype /CIDFontType2 /DW 600 /FontDescriptor 5 0 R /CIDSystemInfo " + system + b" >>",
        b"<< /Type /FontDescriptor /FontName /X /Flags 4 /Ascent 800 /Descent 0 /FontBBox [0 0 600 800] >>",
        _stream(to_unicode),
    ]
    for number, page in enumerate(pages):
        lines = "".join(f"<{line.encode('utf-16-be', 'replace').hex()}> Tj T*\n" for line in page.split("\n"))
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 900 2000] /Contents {8 + 2 * number} 0 R "
            "/Resources << /Font << /F 3 0 R >> >> >>".encode()
        )
        objects.append(_stream(f"BT /F 10 Tf 14 TL 40 1950 Td\n{lines}ET".encode("ascii")))
    return _with_table(objects)


def _stream(data: bytes) -> bytes:
    packed = zlib.compress(data)
    return b"<< /Filter /FlateDecode /Length %d >>\nstream\n%b\nendstream" % (len(packed), packed)


def _with_table(objects: list[bytes]) -> bytes:
    """Number the objects of a PDF, and say where they are."""
    out = io.BytesIO(b"%PDF-1.7\n")
    out.seek(0, io.SEEK_END)
    places = []
    for number, content in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%b\nendobj\n" % (number, content))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table))
    return out.getvalue()


def docx(text: str) -> bytes:
    """Make a Word file whose words are divided between runs, as its spell checker does."""
    paragraphs = "".join(
        "<w:p>" + "".join(map(_run, _parts(line))) + "</w:p>" for line in text.replace("\f", "").split("\n")
    )
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    return archive(
        {"word/document.xml": f'<w:document xmlns:w="{space}"><w:body>{paragraphs}</w:body></w:document>'}
    )


def _run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r>'


def _parts(line: str) -> list[str]:
    middle = len(line) // 3
    return [line[:middle], line[middle:]]


def archive(members: dict[str, str | bytes]) -> bytes:
    """Pack members into an archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return out.getvalue()


def xlsx(text: str) -> bytes:
    """Make a workbook with a line of the text in each row."""
    from openpyxl import Workbook

    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet()
    for line in text.replace("\f", "").split("\n"):
        sheet.append([int(cell) if cell.isdecimal() else cell for cell in line.split("\t")])
    out = io.BytesIO()
    workbook.save(out)
    return out.getvalue()


def html(text: str) -> bytes:
    """Make a page; words are written in tags."""
    lines = "".join(f"<p>{escape(line[:1])}<b>{escape(line[1:])}</b></p>" for line in text.split("\n"))
    return f"<html><head><style>Anna {{}}</style></head><body>{lines}</body></html>".encode()


_WRITERS: dict[str, Callable[[str], bytes]] = {
    ".pdf": pdf,
    ".docx": docx,
    ".xlsx": xlsx,
    ".csv": lambda text: text.encode("utf-8-sig"),
    ".html": html,
    ".txt": lambda text: text.encode("cp1252", "replace") if text.isascii() else text.encode(),
}
