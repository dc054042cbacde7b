"""Which row of a table contains the headings: the same rules for text lists and for workbook sheets.

Titles, subtitles, `Table 1`, the date of an export, comments and group headings may come above the headings.
Each of the first rows gets a score for the evidence that it is the headings of what is below it. The first
row of a list counts as its headings unless another one scores far better: most lists begin with them. In
between nothing is decided: the likely rows are reported.

The weights and the two limits were set on the generated tables of ``tests/tables.py``; docs/lists.md has the
figures.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.errors import ListError
from mailmerge.lazy_re import lazy_re
from mailmerge.model import OWN_COLUMNS
from mailmerge.recipients.address_column import AT_SIGN, has_address, heading_words, understood
from mailmerge.recipients.recipient_list import list_error, read_header, template_name
from mailmerge.text import excerpt, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from mailmerge.model import Place
    from mailmerge.recipients.recipient_list import HeaderRow

_T = TypeVar("_T")
LOOKED_AT: Final = 60
"""Rows with content that are examined."""
BEHIND: Final = 2.0
"""How much better another row must score for the first row to be in doubt."""
AHEAD: Final = 4.0
"""How much better it must score to be chosen without asking."""
_OTHERS: Final = 2
"""Up to this many addresses above the headings may belong to the author of the list."""
LEAST: Final = 2.0
"""A lower score is not evidence."""
_WIDEST: Final = 200
"""Columns that are examined."""
_DEEPEST: Final = 30
"""Rows with content in which headings are searched for."""
_BELOW: Final = 25
"""Rows below a row that show what it would be the headings of."""
_SEVERAL: Final = 2
_TOLD: Final = 3
"""Number of rows that are named if it is not certain."""
_MANY_WORDS: Final = 6
_LONG: Final = 60
"""Length in characters from which a cell is a sentence rather than a heading."""

_WORDS: Final = frozenset(
    """
    name names fullname firstname lastname first last surname forename given family middle title
    salutation prefix suffix company organisation organization city town street zip zipcode postcode
    postal country state region phone telephone tel mobile cell fax date day birthday born dob
    joined since id no nr num number code amount price fee sum due balance status note notes comment
    comments remarks group team class department role position job language gender sex url website
    web type category voice age year paid active member membership customer client order invoice
    ticket seat room table session course score grade quantity qty currency key row vorname nachname
    familienname anrede titel firma ort stadt strasse plz land telefon handy mobil datum geburtstag
    geburtsdatum betrag preis beitrag nummer mitglied mitgliedsnummer kunde kundennummer rechnung
    bemerkung bemerkungen gruppe abteilung sprache geschlecht stimme nom prenom prenoms civilite
    societe entreprise ville rue codepostal pays portable montant prix numero groupe langue
    naissance remarque nombre nombres apellido apellidos tratamiento empresa ciudad calle provincia
    pais telefono movil fecha importe cuota precio grupo idioma notas nome cognome titolo azienda
    ditta citta via cap paese cellulare data importo prezzo quota gruppo lingua sobrenome apelido
    cidade rua estado telefone celular valor naam voornaam achternaam tussenvoegsel aanhef bedrijf
    plaats woonplaats straat telefoon mobiel bedrag prijs groep taal geboortedatum opmerking namn
    fornamn efternamn foretag stad gata postnummer belopp pris grupp sprak navn fornavn etternavn
    efternavn by sted gate belob belop nimi etunimi sukunimi yritys kaupunki katu postinumero
    puhelin paiva summa ryhma imie nazwisko miasto ulica kraj kwota numer grupa jmeno prijmeni mesto
    ulice psc zeme castka cislo skupina meno priezvisko suma nev vezeteknev keresztnev teljesnev ceg
    varos utca iranyitoszam osszeg szam csoport nume prenume oras strada tara ad adi isim soyad
    soyadi sirket sehir sokak ulke tarih tutar numara ime prezime grad iznos vardas pavarde miestas
    vards uzvards nosaukums perekonnanimi eesnimi linn имя фамилия отчество фио название компания
    организация город улица страна телефон дата сумма номер группа прізвище ім'я місто вулиця
    по-батькові сума фамилно фирма град ονομα επωνυμο ονοματεπωνυμο εταιρεια πολη τηλεφωνο
    ημερομηνια ποσο שם משפחה פרטי טלפון עיר תאריך סכום الاسم اسم العائلة الهاتف المدينة الشركة
    التاريخ المبلغ 姓名 名字 姓 名 称呼 稱呼 电话 電話 手机 手機 城市 公司 单位 日期 金额 金額 编号
    編號 序号 部门 部門 性别 备注 氏名 名前 お名前 会社名
    会社 電話番号 都道府県 市区町村 部署 日付 番号 備考 敬称 フリガナ 이름 성명 전화 전화번호 회사
    날짜 금액 번호 도시 부서 नाम शहर ชื่อ นามสกุล
    เบอร์โทร ten ho hoten sodienthoai
    """.split()  # noqa: SIM905
)
"""Words of headings, as `heading_words` returns them: lower case, no accents."""

_FIGURE = lazy_re(r"[\W\d_]*\d[\W\d_]*[^\W\d_]{0,3}[\W\d_]*\Z")
"""A number, a date, an amount or a phone number, with or without a unit."""
_RULE = lazy_re(r"[\s\-=_*+|~.─━]+\Z")
"""A line drawn with characters."""
_LIKE_ADDRESS = lazy_re(r"\w[@＠﹫]\w")
_NOTHING: Final = frozenset(
    {"n/a", "na", "none", "null", "nan", "nil", "x", "k.a.", "n.v.t.", "s/o", "unknown"}
)
_TEXT, _NUMBER, _ADDRESS, _BLANK, _LINE = "text", "number", "address", "", "line"

NumberedRow = tuple[int, "Sequence[str]"]
"""Row number and the displayed text of each cell."""


class FoundHeadings(Struct, frozen=True):
    """Where the headings are, or which rows are likely to contain them."""

    row: int
    """The number of the row with the headings; if it is not certain, of the likeliest."""
    above: tuple[int, ...] = ()
    """The rows with content above the headings, which are not part of the list."""
    upper: int = 0
    """The number of the row above with the headings of other columns; 0: there are none."""
    likely: tuple[int, ...] = ()
    """If it is not certain: all likely rows, in order."""


class _Candidate(Struct, frozen=True):
    """A row that may contain the headings, and the evidence for it."""

    at: int
    score: float
    addresses: int
    """The column with the most addresses below the row; -1: no addresses."""
    email: bool
    """Whether its heading above the addresses means e-mail."""
    complete: bool
    """Whether it has text for every column with content below."""
    two_rows: bool = False
    """Whether some of its texts also occur in the row above."""


def find_headings(rows: Sequence[NumberedRow]) -> FoundHeadings:
    """Find the row of the headings among the first *rows* with content of a list, at least one.

    Rows above the headings do not count, nor does a row that repeats them.
    """
    table = _Table([[cell.strip() for cell in texts[:_WIDEST]] for _, texts in rows[:LOOKED_AT]])
    best, likely = table.decide()
    at = best.at if best else 0
    return FoundHeadings(
        rows[at][0],
        above=tuple(number for number, _ in rows[:at]),
        upper=rows[at - 1][0] if best and best.two_rows else 0,
        likely=tuple(rows[one][0] for one in likely),
    )


def read_headings(
    rows: Sequence[NumberedRow],
    wanted: int | None,
    shown: str,
    place: Callable[[int, int], Place],
) -> HeaderRow:
    """Read the headings of a list.

    Args:
        rows: its first rows with content, at least one; all rows down to *wanted*.
        wanted: the number of the row that has the headings; None: find it.
        shown: the name of the list in messages.
        place: returns the place of a cell, by row number and position.

    Raises:
        ListError: it is not certain which row contains them, or they cannot be used.

    """
    if is_ours(rows[0][1]):
        found = FoundHeadings(rows[0][0])
    elif wanted is not None:
        found = FoundHeadings(wanted, tuple(number for number, _ in rows if number < wanted))
    else:
        found = find_headings(rows)
    texts = dict(rows)
    if found.row not in texts:
        raise _blank(found.row, shown, place(found.row, 0), find_headings(rows).row)
    if found.likely:
        raise _uncertain([(number, texts[number]) for number in found.likely], shown, place)
    cells = list(texts[found.row])
    if found.upper:
        both = zip_longest(cells, texts[found.upper], fillvalue="")
        cells = [lower if lower.strip() else upper for lower, upper in both]
    header, problems = read_header(cells, found.row, lambda at: place(found.row, at))
    if problems:
        raise list_error(shown, problems)
    above = tuple(
        (number, excerpt(_told(texts[number]), 60)) for number in found.above if number != found.upper
    )
    return replace(header, above=above, upper=found.upper)


def is_ours(cells: Sequence[str]) -> bool:
    """Return whether a row has the headings of a file of failed rows: we wrote them, so this is certain."""
    return any(template_name(cell) in OWN_COLUMNS for cell in cells)


def _told(cells: Sequence[str]) -> str:
    return " ".join(" ".join(cells).split())


def _blank(row: int, shown: str, place: Place, likely: int) -> ListError:
    return ListError(
        f"row {row} of {shown} should contain the headings, but is blank",
        code="D200",
        hint=f"row {likely} may contain them: {_choose(likely)}",
        place=place,
        row=row,
    )


def _uncertain(rows: Sequence[NumberedRow], shown: str, place: Callable[[int, int], Place]) -> ListError:
    first = rows[0][0]
    told = " or ".join(f"row {number} ({quoted(_told(cells), 40)})" for number, cells in rows[:_TOLD])
    if len(rows) == 1:
        what = f"{told} may contain the headings of {shown}, but that is not certain"
    else:
        what = f"it is not certain which row of {shown} contains the headings: {told}"
    hint = f"specify which one it is: {' or '.join(_choose(number) for number, _ in rows[:_TOLD])}"
    return ListError(what, code="D200", hint=hint, place=place(first, 0), row=first)


def _choose(row: int) -> str:
    return f"--header {row}"


class _Table:
    """The texts of the first rows, and the kinds of their cells."""

    def __init__(self, cells: list[list[str]]) -> None:
        self._cells = cells
        self._kinds = [[_kind(cell) for cell in row] for row in cells]
        self._judged: dict[int, _Candidate | None] = {}
        self._folded = [[cell.casefold() for cell in row] for row in cells]

    def decide(self) -> tuple[_Candidate | None, list[int]]:
        """Return the best row, None for the first one; if it is not certain, also all likely ones."""
        first = self._candidate(0)
        if first and first.complete and first.email:  # the usual case
            second = self._candidate(1) if len(self._cells) > 1 else None
            again = (
                second and second.complete and second.email and self._is_labels(1) and not self._same(0, 1)
            )
            return (first, [0, 1]) if again else (None, [])
        others = [*map(self._candidate, range(1, min(len(self._cells), _DEEPEST)))]
        candidates = [one for one in (first, *others) if one]
        best = max(candidates, key=lambda one: (one.score, -one.at), default=None)
        best = best and next(one for one in candidates if self._same(one.at, best.at))  # pages repeat it
        if best is None or best is first:
            return None, []
        ahead = best.score - first.score if first else AHEAD
        if first and first.complete and (ahead < self._enough(first, best) or best.addresses < 0):
            return None, []
        rivals = {
            one.at
            for one in others
            if one and one is not best and best.score - one.score < BEHIND and not self._same(one.at, best.at)
        }
        if first and first.complete and (ahead < AHEAD or not best.email or self._is_clean(first)):
            rivals.add(0)
        elif _ADDRESS in self._kinds[0] and not best.email:
            return (best, [best.at]) if best.score >= AHEAD else (None, [])
        elif best.score < LEAST:
            rivals.add(0)
        return best, sorted({*rivals, best.at} if rivals else ())

    def _enough(self, first: _Candidate, best: _Candidate) -> float:
        """Return how much better another row must score to be chosen, or asked about, instead of a first row.

        Sentences and figures are facts about the list rather than headings; labels remain headings, unless
        the other row has a heading that means e-mail.
        """
        if self._is_clean(first) and not best.email:
            return math.inf
        heading = self._cells[0][first.addresses] if 0 <= first.addresses < len(self._cells[0]) else ""
        return BEHIND if self._is_clean(first) or understood(heading).maybe else 0.1

    def _is_clean(self, first: _Candidate) -> bool:
        """Return whether a row has only short labels, at least two."""
        kinds = [kind for kind in self._kinds[first.at] if kind]
        return len(kinds) >= _SEVERAL and not any(
            kind is not _TEXT or _is_sentence(cell)
            for kind, cell in zip(self._kinds[first.at], self._cells[first.at], strict=True)
            if kind
        )

    def _is_labels(self, at: int) -> bool:
        """Return whether a row consists of common names of columns."""
        return (
            _share(
                [cell for cell in self._cells[at] if cell],
                lambda text: is_column_word(text) or understood(text).email,
            )
            > 0.6
        )

    def _candidate(self, at: int) -> _Candidate | None:
        if at not in self._judged:
            self._judged[at] = self._judge(at)
        return self._judged[at]

    def _judge(self, at: int) -> _Candidate | None:
        if not self._may_be(at):
            return None
        filled = self._filled(at)
        if at and not filled:
            return None
        texts = {column: cell for column, cell in enumerate(self._cells[at]) if cell}
        alone = self._scored(at, texts, filled)
        before = sum(self._has_address(one, alone.addresses) for one in range(at))
        if before and not alone.email and (before > _OTHERS or _is_nothing(texts.get(alone.addresses, ""))):
            return None  # headings come before people
        upper = self._candidate(at - 1) if at and not alone.complete else None
        if upper is None or upper.complete:
            return alone
        above = {column: cell for column, cell in enumerate(self._cells[at - 1]) if cell}
        if len(above) < _SEVERAL and not _share(above.values(), is_column_word):  # a title
            return alone
        both = self._scored(at, {**above, **texts}, filled)
        is_better = both.complete and both.email and both.score > alone.score
        return replace(both, two_rows=True) if is_better else alone

    def _scored(self, at: int, texts: dict[int, str], filled: dict[int, list[str]]) -> _Candidate:
        """Score the evidence for *texts* being the headings of what is below row *at*."""
        score, email = 0.0, False
        column = max(filled, key=lambda one: filled[one].count(_ADDRESS), default=-1)
        column = column if column in filled and _ADDRESS in filled[column] else -1
        above = texts.get(column, "")
        if column >= 0:
            heading = understood(above)
            email = heading.email
            if _is_nothing(above):
                score -= 4
            else:
                score += 4 if email else 2 if heading.maybe else 0
                score += 2 * self._has_address(at + 1, column)
        elif any(understood(text).email for text in texts.values()):
            score += 3
        named = [text for one, text in texts.items() if one != column]
        kinds = {column: _kind(text) for column, text in texts.items()}
        score += 3 * _share(named, is_column_word)
        score -= 3 * _share(kinds.values(), lambda kind: kind is _NUMBER)
        score -= 2 * _share(texts.values(), _is_sentence)
        score -= 3 * _share(texts.items(), lambda cell: self._recurs(at, *cell))
        score -= 1 - len({text.casefold() for text in texts.values()}) / len(texts)
        unlike = [column for column, below in filled.items() if _mostly_figures(below)]
        score += 2 * _share(unlike, lambda column: kinds.get(column) is _TEXT)
        missing = sum(len(below) for column, below in filled.items() if column not in texts)
        score += -8 * missing / sum(map(len, filled.values())) if missing else 2
        return _Candidate(at, score, column, email, not missing)

    def _may_be(self, at: int) -> bool:
        """Return whether a row can be the headings: an address, a comment and a drawn line cannot."""
        kinds = [kind for kind in self._kinds[at] if kind]
        only = next(cell for cell in self._cells[at] if cell)
        comment = len(kinds) == 1 and only.startswith(("#", "//", "--", "sep="))
        return _ADDRESS not in kinds and set(kinds) != {_LINE} and not comment

    def _filled(self, at: int) -> dict[int, list[str]]:
        """Return the kinds of the cells with content below a row, by column."""
        found: dict[int, list[str]] = {}
        for below in range(at + 1, min(at + 1 + _BELOW, len(self._cells))):
            if not self._same(at, below):
                for column, kind in enumerate(self._kinds[below]):
                    if kind:
                        found.setdefault(column, []).append(kind)
        return found

    def _has_address(self, at: int, column: int) -> bool:
        """Return whether a row has an address in a column; -1: in any."""
        if column < 0:
            return _ADDRESS in self._kinds[at]
        return column < len(self._kinds[at]) and self._kinds[at][column] is _ADDRESS

    def _recurs(self, at: int, column: int, text: str) -> bool:
        """Return whether a cell's text recurs in its column below: then it is not the column's name."""
        text = text.casefold()
        return any(
            column < len(row) and row[column] == text and row != self._folded[at]
            for row in self._folded[at + 1 : at + 1 + _BELOW]
        )

    def _same(self, one: int, other: int) -> bool:
        return self._folded[one] == self._folded[other]


def _share(of: Collection[_T], counts: Callable[[_T], bool]) -> float:
    return sum(map(counts, of)) / len(of) if of else 0.0


def _mostly_figures(kinds: Sequence[str]) -> bool:
    return sum(kind in {_NUMBER, _ADDRESS} for kind in kinds) * 10 >= len(kinds) * 7


def _is_nothing(text: str) -> bool:
    """Return whether text states that an address is missing."""
    return text != "@" and (not any(map(str.isalpha, text)) or text.casefold() in _NOTHING)


def _is_sentence(text: str) -> bool:
    """Return whether text is a sentence rather than the name of a column."""
    ends = text.endswith((":", "：")) or (text.endswith((".", "。")) and len(text.split()) > 2)
    return ends or len(text) > _LONG or "=" in text


def is_column_word(text: str) -> bool:
    """Return whether text consists of words that name columns."""
    words = heading_words(text[:200])
    known = sum(word in _column_words() for word in words)
    return known * 2 >= max(len(words), 1) and len(words) < _MANY_WORDS and not _is_sentence(text)


@cache
def _column_words() -> frozenset[str]:
    return frozenset(word for text in _WORDS for word in heading_words(text))


def _kind(cell: str) -> str:
    if not cell:
        return _BLANK
    if AT_SIGN.search(cell) and (has_address(cell) or _LIKE_ADDRESS.search(cell)):
        return _ADDRESS
    if is_rule(cell):
        return _LINE
    return _NUMBER if is_figure(cell) else _TEXT


def is_rule(cell: str) -> bool:
    """Return whether text is a line drawn with characters."""
    return _RULE.match(cell) is not None


def is_figure(cell: str) -> bool:
    """Return whether text is a number, a date, an amount or similar."""
    return len(cell) <= _LONG and _FIGURE.match(cell) is not None
