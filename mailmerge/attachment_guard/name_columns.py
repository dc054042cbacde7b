"""Which columns of a list contain the names of people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from mailmerge.attachment_guard.words import name_form, plain, word_set, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailmerge.model import Columns

_FIRST = word_set(
    "first firstname forename given givenname vorname rufname prenom nombre nombres nome primeironome "
    "voornaam fornavn fornamn etunimi imie jmeno keresztnev prenume ime имя 名 名字 이름 名前"
)
_LAST = word_set(
    "last lastname surname family familyname familienname nachname zuname nomdefamille apellido "
    "apellidos cognome sobrenome achternaam etternavn efternavn efternamn sukunimi nazwisko prijmeni "
    "vezeteknev prezime фамилия 姓 성"
)
_FULL = word_set(
    "name fullname vollername vollstandigername nom nomcomplet nombrecompleto nombreyapellidos "
    "nomecompleto naam navn namn nimi imieinazwisko nev contact ansprechpartner recipient empfanger "
    "customer kunde client student schuler employee mitarbeiter mitarbeiterin member mitglied patient "
    "teilnehmer teilnehmerin child pupil eleve alumno alumna alunno alunna uczen elev participant attendee "
    "candidate guest tenant mieter bewerber bewerberin kandidat kandidatin "
    "company firma firmenname organisation organization societe empresa azienda "
    "bedrijf unternehmen фио имяифамилия 姓名 氏名 お名前 성명 이름 会社名 公司"
)
_NO_PERSON = word_set(
    "file user nick street event course product item sheet domain host brand project class room table "
    "datei strassen produkt kurs"
)
_NAME = word_set("name names nom nombre nome naam navn namn")
_PERHAPS = word_set("kind kinder")
"""People in one language and something else in another: the cells or the other headings decide."""
_BESIDE = word_set(
    "vorname nachname eltern mutter vater klasse gruppe schule strasse anrede geburtsdatum elternteil "
    "erziehungsberechtigte telefon ort plz betrag nummer lehrerin lehrer"
)
_PERSON = re.compile(r"[^\W\d_][^\W\d_]*(?:[-'’ ,.]+[^\W\d_]+){1,4}\.?")
_MOST_OF = 0.8
_LONGEST_NAME = 80
_EXPRESSION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_COLUMN = re.compile(r"\s*([^\W\d]\w*)\s*(?:\|[^{}]*)?", re.DOTALL)
"""An expression that is one column, perhaps with filters."""
_VARIABLE = re.compile(r"(?<![\w.|'\"])[^\W\d]\w*(?!\s*[(\w])")


def name_columns(
    columns: Columns, to: Iterable[str], rows: Sequence[Sequence[str]] = ()
) -> tuple[tuple[int, ...], ...]:
    """Return the columns that form names: each entry is one name, in the order of its parts.

    Args:
        columns: the columns of the list.
        to: the templates of the recipients: the text before an address is a name.
        rows: the cells of a few rows.

    """
    found: dict[tuple[int, ...], None] = {}
    for template in to:
        before, bracket, _ = template.rpartition("<")
        used = [word for tag in _EXPRESSION.findall(before) for word in _VARIABLE.findall(tag)]
        if bracket and (places := tuple(columns.names.index(name) for name in used if name in columns.names)):
            found[places] = None
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for place, heading in enumerate(columns.headings):
        part, whose = _part_of_name(heading)
        if part == "first":
            first.setdefault(whose, place)
        elif part == "last":
            last.setdefault(whose, place)
        elif part == "full":
            found[(place,)] = None
    for place in _people(columns, rows):
        found[(place,)] = None
    found |= {(first[whose], last[whose]): None for whose in first if whose in last}
    single = next(iter(found), None) is None
    found |= {(place,): None for whose, place in last.items() if single and whose not in first}
    return tuple(found)


def _display_names(columns: Columns, to: Iterable[str]) -> Iterator[tuple[int, ...]]:
    """Yield the columns of each display name that is made of columns alone, each as it is or filtered."""
    for template in to:
        before, bracket, _ = template.rpartition("<")
        used = [_COLUMN.fullmatch(tag) for tag in _EXPRESSION.findall(before)]
        names = [found[1] for found in used if found and found[1] in columns.names]
        if bracket and names and len(names) == len(used) and "{%" not in before:
            yield tuple(columns.names.index(name) for name in names)


class PersonNames:
    """The names of people in a list: from first and last name, else from a column of names."""

    def __init__(self, columns: Columns, to: Iterable[str] = ()) -> None:
        own = _display_names(columns, to)
        found = sorted(name_columns(columns, ()), key=len, reverse=True)
        self.places = list(dict.fromkeys([*own, *found]))
        """The columns of each name, the preferred one first: those of the messages' own display names."""

    def of(self, cells: Sequence[str]) -> str:
        """Return the name in *cells*, or an empty string."""
        for places in self.places:
            words = (cells[place].strip() for place in places if place < len(cells))
            if name := " ".join(filter(None, words))[:_LONGEST_NAME]:
                return name
        return ""


def _is_full_name(cell: str) -> bool:
    words = cell.split()
    return _PERSON.fullmatch(cell) is not None and not (words[0][0].islower() or words[-1][0].islower())


def _part_of_name(heading: str) -> tuple[Literal["first", "last", "full", ""], str]:
    """Return which part of a name a column has, by its heading, and whose: ``guest``, ``2``, or nothing."""
    words = [name_form(word) for word in words_of(plain(heading)).words]
    number = words.pop() if len(words) > 1 and words[-1].isdecimal() else ""
    joined = "".join(words).rstrip("0123456789")
    whose = " ".join([number, *words[:-1]]) if len(words) > 1 and joined not in _FIRST | _LAST else number
    if joined in _FIRST or (len(words) > 1 and words[-1] in _FIRST):
        return "first", whose
    if joined in _LAST or (len(words) > 1 and words[-1] in _LAST):
        return "last", whose
    if joined in _FULL or (_NAME & {*words} and not _NO_PERSON & {*words}):
        return "full", whose
    return "", whose


def _people(columns: Columns, rows: Sequence[Sequence[str]]) -> Iterator[int]:
    """Yield the columns whose heading may mean people, if the cells or the other headings confirm it."""
    headings = ["".join(name_form(word) for word in words_of(plain(one)).words) for one in columns.headings]
    beside = bool(_BESIDE & {*headings})
    for place, heading in enumerate(headings):
        if heading in _PERHAPS:
            cells = {row[place].strip() for row in rows} - {""}
            whole = sum(_is_full_name(cell) for cell in cells)
            if beside or (cells and whole >= _MOST_OF * len(cells) and len(cells) > len(rows) // 2):
                yield place
