"""Whose file is it: names found however they are written, and nothing said of what is there by chance."""

from __future__ import annotations

import hashlib
import io
import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfWriter

from attachment_corpus import KINDS, archive, corpus, file_of, pdf, swapped
from mailmerge.attachment_guard.extraction import MOST_TEXT, Extract, extract
from mailmerge.attachment_guard.file_reader import FileToRead
from mailmerge.attachment_guard.name_columns import name_columns
from mailmerge.attachment_guard.naming import Identities
from mailmerge.campaign import Campaign
from mailmerge.model import Columns
from mailmerge.plan.file_readers import FileReader, FileReaders
from mailmerge.plan.text_cache import TextCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from attachment_corpus import Corpus
    from mailmerge.campaign.plan import Plan


def accused(people: Sequence[tuple[str, str, str]], texts: Iterable[str | None]) -> dict[int, int]:
    """Return the rows whose text is another row's, with that row; people are key, name and address."""
    identities = Identities()
    for n, (key, name, address) in enumerate(people):
        identities.add(n, key=key, names=[name], addresses=[address] if address else [])
    seen = {n: identities.see(text, (n,)) for n, text in enumerate(texts) if text is not None}
    found = {n: identities.judge(sighting) for n, sighting in seen.items()}
    return {n: mismatch.row for n, mismatch in found.items() if mismatch}


def swaps_found(made: Corpus, order: Sequence[int]) -> set[int]:
    """Return the rows that are reported as getting another row's text."""
    people = [(key, f"{first} {last}".strip(), address) for address, key, first, last in made.rows]
    return set(accused(people, [made.texts[place] for place in order]))


@pytest.mark.parametrize("kind", KINDS)
def test_swapped_files_are_found_and_no_others(kind: str) -> None:
    """Of 20 swapped texts of each kind all but one at most are found, and none of 180 others is blamed."""
    made = corpus(kind, 1, 200)
    order, wrong = swapped(made, 1, 20)
    found = swaps_found(made, order)
    assert len(found & wrong) >= 19
    assert found - wrong == set()


@pytest.mark.parametrize("kind", KINDS)
def test_files_in_their_place_are_never_blamed(kind: str) -> None:
    """Names that are words, families, short keys, class lists: 200 correct texts are not reported."""
    assert swaps_found(corpus(kind, 2, 200), range(200)) == set()


def test_files_that_all_lie_one_place_further_are_found() -> None:
    """Where no file names its own row, each but those that name nobody is told."""
    made = corpus("payslips", 1, 100)
    found = swaps_found(made, [*range(1, 100), 0])
    assert len(found) >= 0.9 * sum(made.named)


ANNA = ("E1001", "Anna Meyer", "anna@example.org")
OTHERS = [
    ("E1002", "Jörg Müller", "jm@example.org"),
    ("E1003", "Li Wei", "lw@example.org"),
    ("E1004", "Anna-Maria van den Berg", "amb@example.org"),
    ("E1005", "O'Brien, Sean", "sean@example.org"),
    ("E1006", "王小明", "wang@example.org"),
    ("E1007", "Dr. Žofie Łoś", "zl@example.org"),
]


@pytest.mark.parametrize(
    ("row", "written"),
    [
        (1, "Staff no. E1002"),
        (1, "jm@example.org"),
        (1, "Reply to: jm@\nexample.org"),
        (1, "Jörg Müller"),
        (1, "Müller, Jörg"),
        (1, "JÖRG MÜLLER"),
        (1, unicodedata.normalize("NFD", "Jörg Müller")),
        (1, "Joerg Mueller"),
        (1, "Jorg Muller"),
        (1, "Jo¨rg Mu¨ller"),
        (1, "Jörg\nMüller"),
        (1, "Jörg Mül-\nler"),
        (1, "Jörg Mül\x02ler"),
        (1, "J ö r g  M ü l l e r"),
        (1, "J ö r g M ü l l e r"),
        (1, "Jörg\u00a0Mü\u00adller"),
        (1, "JörgMüller"),
        (2, "Li Wei"),
        (2, "Wei Li"),
        (3, "Anna-Maria van den Berg"),
        (3, "Anna-\nMaria van den Berg"),
        (3, "Berg, Anna Maria van den"),
        (4, "Sean O’Brien"),
        (4, "SEAN O'BRIEN"),
        (5, "王小明先生"),
        (5, "致:王 小 明"),
        (6, "Zofie Los"),
        (6, "ŁOŚ Žofie"),
    ],
)
def test_a_name_is_found_however_it_is_written(row: int, written: str) -> None:
    """Text with another row's key, address or name in any of these forms is that row's, not Anna's."""
    assert accused([ANNA, *OTHERS], [f"Letter\n{written}\nGross 3.100,00"]) == {0: row}


@pytest.mark.parametrize(
    "own",
    [
        "Anna Meyer",
        "MEYER Anna",
        "A n n a M e y e r",
        "E 1001",
        "anna@example.org",
        "Dear Ms Meyer,",
        "An-\nna Meyer",
    ],
)
def test_a_text_that_names_its_own_row_may_name_others(own: str) -> None:
    """Jörg Müller signed it: it is Anna's all the same."""
    assert accused([ANNA, *OTHERS], [f"{own}\nText\nJörg Müller"]) == {}


@pytest.mark.parametrize(
    ("people", "text"),
    [
        ([("1", "Anna Meyer", ""), ("7", "Bo Berg", "")], "Seat 7, row 1"),
        ([("A", "Anna Meyer", ""), ("B", "Bo Berg", "")], "Group B"),
        ([("E1", "Anna Meyer", ""), ("1203", "Bo Berg", "")], "Total 1203,50 EUR"),
        ([("E1", "Anna Meyer", ""), ("1203", "Bo Berg", "")], "Total 1.203 EUR, 1203 EUR, 1203 %"),
        ([("E1", "Anna Meyer", ""), ("1203", "Bo Berg", "")], "No. 77-1203-4, 2025/1203, 5.1203"),
        ([("E1", "Anna Meyer", ""), ("E2", "Will Long", "")], "This will long be so. You may grant a mark."),
        ([("E1", "Anna Meyer", ""), ("E2", "Long", "")], "Long Street"),
        ([("E1", "Anna Meyer", ""), ("E2", "Bo", "")], "Bo Street"),
        (
            [("E1", "Anna Meyer", ""), ("E2", "Meyer Schulz", "")],
            "Meyer-Schulz-Platz and Old-Meyer Schulz-Gasse",
        ),
        ([("E1", "Anna Meyer", ""), ("E22", "Bo Berg", "")], "E221, E22B, XE22, HE22-4, E22/7"),
        ([("E1", "Anna Meyer", "f@x.org"), ("E2", "Anna Meyer", "f@x.org")], "Anna Meyer f@x.org"),
        ([("E1", "Anna Meyer", ""), ("E2", "", "")], "Nobody is named"),
        ([(f"E{n}", "Gold Member" if n else "Anna Meyer", "") for n in range(20)], "Be a Gold Member"),
    ],
)
def test_what_is_there_by_chance_is_no_evidence(people: list[tuple[str, str, str]], text: str) -> None:
    """Short keys, amounts, pieces of longer numbers and names, words of the language, what two rows share."""
    assert accused(people, [text]) == {}


@pytest.mark.parametrize("written", ["Anna Meyer", "Ben Meyer", "Meyer, Ben"])
def test_each_of_a_couple_is_known(written: str) -> None:
    """A cell may have two people, and a file name one of them."""
    people = [("1", "Jörg Müller", ""), ("2", "Anna Meyer & Ben Meyer", "")]
    assert accused(people, [written, written]) == {0: 1}


def test_a_number_counts_where_the_others_have_theirs() -> None:
    """Numbers may be amounts: what comes before them decides, or that the text begins with the number."""
    people = [(f"{1000 + n}", "", "") for n in range(60)]
    for form in ("No.{} of 1007 pcs", "{};1007;x"):
        texts = [form.format(people[n if n > 1 else 1 - n][0]) for n in range(60)]
        assert accused(people, texts) == {0: 1, 1: 0}


def test_two_people_of_one_name_are_told_apart_by_their_keys() -> None:
    """The name alone says nothing; the other key does."""
    people = [("E1001", "Anna Meyer", ""), ("E1002", "Anna Meyer", "")]
    assert accused(people, ["Anna Meyer E1002", "Anna Meyer E1002"]) == {0: 1}


@pytest.mark.parametrize("count", [12, 300])
def test_who_is_named_in_every_file_is_no_evidence(count: int) -> None:
    """The sender is in the list: files that name nobody else are nobody's."""
    people = [(f"E{1000 + n}", f"Person{n:03} Meyer{n:03}", f"p{n}@x.org") for n in range(count)]
    texts = [
        f"{people[n][1] if n % 7 else ''} text {n}\nYours, Person000 Meyer000 p0@x.org" for n in range(count)
    ]
    assert accused(people, texts) == {}


def test_of_one_or_two_files_only_what_is_beyond_doubt_is_an_error() -> None:
    """A price list with the seller's name is told; a key, two files swapped, the same file twice stop."""
    people = [("E1000", "Sam Seller", "sam@x.org"), ("E1001", "Ann Buyer", "a@x.org")]
    prices = "Apples 4.50. Ask Sam Seller, sam@x.org"
    for texts, own, sure in (
        ([prices], [1], [False]),
        (["Order of Sam Seller", prices], [0, 1], [False]),
        (["Payslip E1000"], [1], [True]),
        (["Payslip of Ann Buyer", "Payslip of Sam Seller"], [0, 1], [True, True]),
        (["Payslip of Sam Seller", "Payslip of Sam Seller"], [0, 1], [True]),
    ):
        identities = Identities()
        for n, (key, name, address) in enumerate(people):
            identities.add(n, key=key, addresses=[address], names=[name])
        seen = [identities.see(text, [n]) for text, n in zip(texts, own, strict=True)]
        found = [mismatch.sure for one in seen if (mismatch := identities.judge(one))]
        assert found == sure, texts


def test_who_sends_is_no_evidence_in_one_or_two_files() -> None:
    """Of an address that messages come from nothing is said there, and a key is said all the same."""
    for text, found in (("Ask Sam Seller", None), ("Payslip E1000, Sam Seller", 0)):
        identities = Identities(["Sam@X.org"])
        identities.add(0, key="E1000", addresses=["sam@x.org"], names=["Sam Seller"])
        identities.add(1, key="E1001", addresses=["a@x.org"], names=["Ann Buyer"])
        mismatch = identities.judge(identities.see(text, [1]))
        assert (mismatch and mismatch.row) == found


@pytest.mark.parametrize("count", [3, 4, 5])
def test_a_seller_in_a_list_of_a_few_customers_is_no_evidence(count: int) -> None:
    """Price lists name who sells, and no customer; one file of the seller's own would still be found."""
    people = [(f"E{1000 + n}", f"Person{n:03} Meyer{n:03}", f"p{n}@x.org") for n in range(count)]
    prices = [f"Apples {n}.50. Ask Person000 Meyer000, p0@x.org" for n in range(count)]
    assert accused(people, prices) == {}
    own = [f"Payslip of {name}" for _, name, _ in people]
    assert accused(people, [own[0], own[0], *own[2:]]) == {1: 0}


def test_one_person_s_file_under_everybody_s_name_is_found() -> None:
    """The same text goes to all: it is Bo's, and no word that everybody's text has."""
    people = [(f"E{1000 + n}", f"Person{n:03} Meyer{n:03}", f"p{n}@x.org") for n in range(40)]
    assert accused(people, ["Payslip of Person007 Meyer007, E1007"] * 40) == dict.fromkeys(
        {*range(40)} - {7}, 7
    )


words = st.text(st.characters(codec="utf-8"), max_size=12)


@given(st.lists(st.tuples(words, words, words), min_size=1, max_size=4), st.lists(words, max_size=6))
def test_no_list_and_no_text_is_too_strange(people: list[tuple[str, str, str]], pieces: list[str]) -> None:
    """Whatever cells and texts are, text that contains a row's own name is never reported as another's."""
    text = " ".join(pieces)
    accused(people, [text] * len(people))
    own = " Quentin Zwirbelmann "
    assert accused([("K-90210", own, ""), *people], [f"{text}\n{own}\n{text}"]) == {}


def test_a_hostile_text_takes_no_longer() -> None:
    """Fifty thousand letters, spaces, hyphens, at signs: none is searched again and again."""
    for piece in ("a", "a ", "@", "a@", "-", "- ", "王", "王 ", "a-\n", "'", "(", "́", "a@b.", "1."):
        accused([ANNA, *OTHERS], [piece * (50_000 // len(piece))])


# --- columns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headings", "to", "found"),
    [
        ("email,name", "{{ email }}", ["name"]),
        ("E-Mail,Vorname,Nachname", "{{ e_mail }}", ["Vorname Nachname"]),
        ("email,x,y", "{{ x|title }} {{ y }} <{{ email }}>", ["x y"]),
        ("First Name,Last Name,Email", "", ["First Name Last Name"]),
        ("Prénom,Nom de famille,Courriel", "", ["Prénom Nom de famille"]),
        ("学号,姓名,邮箱", "", ["姓名"]),
        ("Full Name,Email,File name,User name", "", ["Full Name"]),
        ("Student name,Teacher name,Event name", "", ["Student name", "Teacher name"]),
        ("email,Nachname", "", ["Nachname"]),
        ("Parent name,Child,Email", "", ["Parent name", "Child"]),
        ("email,number,amount", "", []),
        ("Имя,Фамилия", "", ["Имя Фамилия"]),
    ],
)
def test_columns_of_names_are_known(headings: str, to: str, found: list[str]) -> None:
    """They are recognised by what comes before the address in `to`, and by their headings."""
    names = headings.split(",")
    columns = Columns(tuple(names), tuple(name.lower().replace("-", "_").replace(" ", "_") for name in names))
    assert [" ".join(names[place] for place in places) for places in name_columns(columns, [to])] == found


@pytest.mark.parametrize(
    ("headings", "cells", "found"),
    [
        ("Kind,E-Mail", ["Mia Klein", "Jörg von Berg", "Li-Ann O'Neil"], True),
        ("Kind,Email", ["Invoice", "Reminder", "Last Reminder"], False),
        ("Kind,Email", ["Gift Card", "Gift Card", "Gift Card"], False),
        ("Kind,Klasse,E-Mail", ["Mia", "Jörg", "Li"], True),
        ("kind,email", [], False),
    ],
)
def test_a_heading_of_two_meanings_is_read_by_what_is_beside_and_below(
    headings: str, cells: list[str], found: bool
) -> None:
    """`Kind` is a child in German, and a sort of thing in English."""
    names = headings.split(",")
    columns = Columns(tuple(names), tuple(name.lower().replace("-", "_") for name in names))
    rows = [[cell, *("x" for _ in names[1:])] for cell in cells]
    assert name_columns(columns, [], rows) == (((0,),) if found else ())


# --- files ------------------------------------------------------------------------------------------------

SAID = "Staff no. E1002\nJörg Müller 王小明\nGross 3.100,00"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
WITH_HEADER = archive(
    {
        "word/document.xml": f'<w:x xmlns:w="{WORD}"><w:p><w:t>A</w:t><w:tab/><w:t>b</w:t></w:p></w:x>',
        "word/header1.xml": f'<w:x xmlns:w="{WORD}"><w:p><w:t>c</w:t></w:p></w:x>',
    }
)


@pytest.mark.parametrize("suffix", [*dict.fromkeys(KINDS.values())])
def test_the_text_of_each_kind_of_file_is_read(suffix: str) -> None:
    """Its words are there, none is divided, and none is taken for part of its neighbour."""
    found = extract(file_of(suffix, SAID), suffix)
    assert found.state == "read"
    assert found.text.split() == SAID.split()


@pytest.mark.parametrize(
    ("content", "suffix", "text"),
    [
        (SAID.encode("utf-16"), ".txt", SAID),
        ("Jörg".encode("cp1252"), ".csv", "Jörg"),
        (b"<meta charset=iso-8859-2><p>\xa3o\xb6</p><script>x</script><!-- y -->", ".html", "Łoś"),
        (b"<p>a<table><tr><td>b<td>c</table><input value=d>", ".html", "a b c d"),
        (b"From: a@x.org\nContent-Type: text/html\n\n<p>Bo</p>", ".eml", "From: a@x.org Bo"),
        (b"<a>Bo<b>Berg</b></a>", ".xml", "Bo Berg"),
        (WITH_HEADER, ".docx", "A b c"),
        (pdf("Bo"), ".txt", "Bo"),
    ],
)
def test_texts_are_read_as_they_are_meant(content: bytes, suffix: str, text: str) -> None:
    """Encodings, markup and messages; what a file begins with counts for more than its name."""
    assert extract(content, suffix).text.split() == text.split()


def test_the_files_of_an_archive_are_read() -> None:
    """With their names; what is in it and cannot be read is said, and archives in archives are such files."""
    two: dict[str, str | bytes] = {"E1002/payslip.pdf": pdf("Jörg Müller"), "note.txt": "Li Wei"}
    whole = extract(archive(two), ".zip")
    assert (whole.state, whole.left) == ("read", None)
    assert [word for word in ("E1002", "Jörg Müller", "Li Wei") if word not in whole.text] == []
    assert extract(archive({**two, "scan.png": b"\x89PNG"}), ".zip").left == "other"
    assert extract(archive({"scan.pdf": pdf("")}), ".zip").left == "empty"
    nested = extract(archive({"a.zip": archive(two)}), ".zip")
    assert (nested.left, "Li Wei" in nested.text) == ("other", False)
    many = archive({f"{n}.txt": "x" for n in range(600)})
    assert (extract(many, ".zip").state, extract(archive({"b.txt": b"x" * (20 << 20)}), ".zip").state) == (
        "large",
        "large",
    )


BOMB = archive({"word/document.xml": b"<a>" + b"x" * (20 << 20) + b"</a>"})


def encrypted(password: str) -> bytes:
    """Make a PDF that only its owner, or who has the *password*, may open."""
    writer, out = PdfWriter(clone_from=io.BytesIO(pdf("Bo"))), io.BytesIO()
    writer.encrypt(password, "owner", algorithm="AES-256")
    writer.write(out)
    return out.getvalue()


def test_only_a_pdf_that_nobody_can_open_is_encrypted() -> None:
    """One that forbids printing is read."""
    assert extract(encrypted("secret"), ".pdf").state == "encrypted"
    assert extract(encrypted(""), ".pdf") == Extract("read", "Bo")


@pytest.mark.parametrize(
    ("content", "suffix", "state"),
    [
        (pdf(""), ".pdf", "empty"),
        (b"%PDF-1.7 no more", ".pdf", "damaged"),
        (b"no PDF", ".pdf", "damaged"),
        (b"PK\x03\x04 no more", ".docx", "damaged"),
        (archive({"word/document.xml": "<a>"}), ".docx", "damaged"),
        (archive({"word/document.xml": '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'}), ".docx", "damaged"),
        (archive({"xl/workbook.xml": "<a/>", "xl/worksheets/sheet1.xml": "<a/>"}), ".xlsx", "empty"),
        (archive({"other": "x"}), ".docx", "read"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".xlsx", "encrypted"),
        (BOMB, ".docx", "large"),
        (b"\x89PNG", ".png", "other"),
        (b"", ".html", "empty"),
        (b"<div>" * 50_000, ".html", "empty"),
        (b"---", ".txt", "empty"),
    ],
)
def test_what_cannot_be_read_is_said(content: bytes, suffix: str, state: str) -> None:
    """Never an error, whatever is in a file."""
    assert extract(content, suffix).state == state


def test_no_text_is_longer_than_is_kept() -> None:
    """What follows is left out, of pages too."""
    assert len(extract(b"a " * MOST_TEXT, ".txt").text) == MOST_TEXT
    assert len(extract(pdf("\f".join(["word " * 4000] * 60)), ".pdf").text) <= MOST_TEXT


def to_read(path: Path, content: bytes) -> FileToRead:
    """Write a file to be read."""
    path.write_bytes(content)
    return FileToRead(bytes(path), hashlib.sha256(content).hexdigest(), path.suffix)


def test_a_reader_that_takes_too_long_or_dies_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is not read, and the next one is."""
    reader = FileReader(seconds=0.05)
    good = to_read(tmp_path / "b.html", b"<p>Bo</p>")
    assert reader.read(good).state == "slow"  # Python itself takes longer to start
    reader = FileReader()
    assert reader.read(good) == Extract("read", "\nBo\n")
    assert reader._process is not None
    reader._process.kill()
    assert reader.read(good).state == "damaged"
    assert reader.read(good).state == "read"
    reader.close()
    monkeypatch.setattr(sys, "executable", "")
    assert FileReader().read(good).state == "unstarted"


def test_files_are_read_in_order_and_only_as_they_were(tmp_path: Path) -> None:
    """Two processes share them; what has changed or is gone is not read."""
    files = [to_read(tmp_path / f"{n}.html", f"<p>{n}</p>".encode()) for n in range(9)]
    (tmp_path / "3.html").write_bytes(b"<p>other</p>")
    (tmp_path / "4.html").unlink()
    with FileReaders(2) as readers:
        found = list(readers.read(files))
    assert [file for file, _ in found] == files
    assert [text.text.strip() for _, text in found] == ["0", "1", "2", "", "", "5", "6", "7", "8"]


def test_texts_are_kept_as_long_as_they_are_used(tmp_path: Path) -> None:
    """Text that no plan asks for goes when the next new one is stored; a damaged file has none."""
    path = tmp_path / "texts" / "a"
    one, two, three = ("11" * 32, "22" * 32, "33" * 32)
    with TextCache(path) as texts:
        texts.put(one, Extract("read", "Ä"))
        texts.put(two, Extract("empty"))
    assert path.stat().st_mode & 0o777 == 0o600
    with TextCache(path) as texts:
        assert texts.get(one) == Extract("read", "Ä")
        texts.put(three, Extract("slow"))
    with TextCache(path) as texts:
        assert [texts.get(sha) for sha in (one, two, three)] == [Extract("read", "Ä"), None, Extract("slow")]
    path.write_bytes(path.read_bytes()[:-4])
    with TextCache(path) as texts:
        assert texts.get(three) is None or texts.get(one) is None


# --- campaigns --------------------------------------------------------------------------------------------


def planned(
    folder: Path, texts: Sequence[str], *, rule: str = "", rest: str = "", suffix: str = ".txt"
) -> Plan:
    """Check a campaign whose rows get these files."""
    people = [ANNA, *OTHERS][: len(texts)]
    rows = "".join(f'{address},"{name}",{key}\n' for key, name, address in people)
    (folder / "people.csv").write_text(f"email,name,number\n{rows}", encoding="utf-8")
    (folder / "body.txt").write_text("Hi\n")
    (folder / "campaign.toml").write_text(
        '[data]\nsource = "people.csv"\nkey = "number"\n[message]\nfrom = "me@example.org"\nsubject = "Hi"\n'
        f'text = "body.txt"\n[[attach]]\npath = "f/{{{{ number }}}}{suffix}"\n{rule}\n{rest}\n'
    )
    (folder / "f").mkdir(exist_ok=True)
    for (key, _, _), text in zip(people, texts, strict=True):
        (folder / "f" / f"{key}{suffix}").write_bytes(
            text.encode() if suffix == ".jpg" else file_of(suffix, text)
        )
    environ = {"MAILMERGE_STATE_DIR": str(folder / "state"), "MAILMERGE_CACHE_DIR": str(folder / "cache")}
    return Campaign.load(folder, environ=environ).check()


RIGHT = ["Anna Meyer", "Jörg Müller", "Li Wei"]
WRONG = ["Jörg Müller E1002", "Anna Meyer", "Li Wei"]


def said(plan: Plan) -> list[tuple[str, list[int]]]:
    """Return codes and rows of what is wrong."""
    return [(group.first.code, group.rows) for group in plan.problems]


@pytest.mark.parametrize("suffix", [".txt", ".pdf"])
def test_a_swapped_file_makes_its_row_invalid(tmp_path: Path, suffix: str) -> None:
    """The message names the file, what it names and whose row that is; once put right, it is sent."""
    plan = planned(tmp_path, WRONG, suffix=suffix)
    assert said(plan) == [("A320", [2]), ("A320", [3])]
    assert next(iter(plan.problems)).first.message == (
        f'"E1001{suffix}" names "E1002" and "Jörg Müller": that is row 3 (jm@example.org), not this row'
    )
    assert plan.ready == 1
    assert plan.files == {1: 1}
    assert said(planned(tmp_path, RIGHT, suffix=suffix)) == []


@pytest.mark.parametrize(
    "override", [{"rule": "guard = false"}, {"rule": "shared = true"}, {"rest": '[check]\nignore = ["A320"]'}]
)
def test_a_rule_or_the_campaign_can_do_without(tmp_path: Path, override: dict[str, str]) -> None:
    """`guard = false`, files that rows share, and an overruled code."""
    assert said(planned(tmp_path, WRONG, **override)) == []


def test_files_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    """One warning for all of them, with reasons and the first rows."""
    plan = planned(tmp_path, ["Anna Meyer", "", ""], suffix=".pdf")
    (found,) = plan.problems
    assert found.first.code == "A222"
    assert found.first.message == (
        "whom they name cannot be read in 2 files of single rows: 2 without text, such as scans"
    )
    assert "row 3" in (found.first.hint or "")


def test_files_of_other_kinds_are_counted_as_not_read(tmp_path: Path) -> None:
    """An image, an old Word file: nothing is silently taken for looked into."""
    plan = planned(tmp_path, ["Anna Meyer", "x", "y"], suffix=".jpg")
    (found,) = plan.problems
    assert (found.first.code, found.first.message) == (
        "A222",
        "whom they name cannot be read in 3 files of single rows: 3 of kinds that are not read (.jpg)",
    )
    assert "`guard = false`" in (found.first.hint or "")
    assert plan.ready == 3


def test_a_doubtful_file_of_a_tiny_list_is_sent_with_a_warning(tmp_path: Path) -> None:
    """Two files: one names its own row, the other only that row, too, as it would the seller."""
    plan = planned(tmp_path, ["Order of Anna Meyer", "Prices. Ask Anna Meyer"])
    assert said(plan) == [("A224", [3])]
    assert plan.ready == 2


def test_a_missing_extra_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what reads PDF a warning says how it is installed; nothing fails."""
    broken = tmp_path / "pypdfium2.py"
    broken.write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(tmp_path)
    plan = planned(tmp_path, WRONG, suffix=".pdf")
    (found,) = plan.problems
    assert found.first.code == "A223"
    assert "mailmerge-kit[guard]" in (found.first.hint or "")
    assert plan.ready == 3


def test_purge_removes_the_texts(tmp_path: Path) -> None:
    """What was read of the files is personal data of the campaign."""
    planned(tmp_path, RIGHT)
    assert list((tmp_path / "cache" / "texts").glob("*-texts"))
    environ = {"MAILMERGE_STATE_DIR": str(tmp_path / "state"), "MAILMERGE_CACHE_DIR": str(tmp_path / "cache")}
    Campaign.load(tmp_path, environ=environ).purge()
    assert not list((tmp_path / "cache" / "texts").glob("*-texts"))


def test_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their texts are kept: a new plan needs no process to read them."""
    planned(tmp_path, WRONG, suffix=".pdf")
    (tmp_path / "cache" / "texts").rename(tmp_path / "texts")
    for path in (tmp_path / "cache").glob("*.plan"):
        path.unlink()
    (tmp_path / "texts").rename(tmp_path / "cache" / "texts")
    monkeypatch.setattr(sys, "executable", "")
    assert said(planned(tmp_path, WRONG, suffix=".pdf")) == [("A320", [2]), ("A320", [3])]
