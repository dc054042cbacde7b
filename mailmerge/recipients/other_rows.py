"""Rows of a table that are not recipients: totals, notes, headings repeated on each page, units, lines.

A row with an address in it, or anything like one, is always a recipient, and so is each row of a list in
which no column has addresses. What is left out is named with its number and its text: nobody is lost
silently.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mailmerge.errors import ListError
from mailmerge.lazy_re import lazy_re
from mailmerge.model import Diagnostic, Severity
from mailmerge.recipients.address_column import AT_SIGN, address_columns, heading_words, understood
from mailmerge.recipients.heading_row import is_column_word, is_figure, is_rule
from mailmerge.text import numbers, plural, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailmerge.model import Place
    from mailmerge.recipients.heading_row import NumberedRow
    from mailmerge.recipients.recipient_list import HeaderRow

_TOTALS: Final = frozenset(
    """
    total totals subtotal subtotals sum count average avg grandtotal
    summe gesamt gesamtsumme zwischensumme insgesamt anzahl mittelwert durchschnitt
    totale somme soustotal moyenne montanttotal
    suma subtotales promedio totales somma subtotale media conteggio soma subtotal contagem
    totaal subtotaal som aantal gemiddelde
    summa totalt delsumma antal sum antall gjennomsnitt totalbelop ialt samlet
    yhteensa valisumma lukumaara keskiarvo
    razem lacznie ogolem srednia celkem soucet prumer pocet spolu sucet
    osszesen osszeg reszosszeg atlag darab
    toplam aratoplam ortalama adet ukupno zbroj skupaj viso isviso kokku kopa
    итого всего итог сумма количество усього разом общо сбор
    συνολο αθροισμα סהכ סהייכ סיכום المجموع الاجمالي مجموع
    合计 合計 总计 總計 总数 小计 小計 計 총계 합계 소계 总和 総計
    samtals cyfanswm iomlan jumla guztira कुल योग รวม tongcong tong σ
    """.split()  # noqa: SIM905
)
"""Words for totals, as `heading_words` returns them: lower case, no accents."""
_COUNT = lazy_re(r"\(?\s*(?:\d[\d .,']*\s+[^\W\d_]+.*|[^\W\d_]+ ?: ?\d+)\Z")
"""A count, as database clients end a table: ``(3 rows affected)``, ``Records: 12``."""
_PAGE = lazy_re(r"[^\W\d_]{1,8}\.? ?\d{1,5}(?: ?(?:/|[^\W\d_]{1,4}) ?\d{1,5})?\Z")
"""``Page 2 of 3``."""
_NOTE = lazy_re(
    r"[*†‡#–—-]|\(?\d\)|note|source|quelle|anmerkung|hinweis|remarque|nota\b|note:", re.IGNORECASE
)
_UNIT = lazy_re(
    r"\([^()]{1,12}\)|\[[^\[\]]{1,12}\]|[dmyjta]{1,4}([./-])[dmyjta]{1,4}\1[dmyjta]{1,4}"
    r"|[%€$£¥#°]|eur|euro|usd|gbp|chf|cny|jpy|k?g|[ckm]?m[²³23]?|h|min|sec?|pcs|st[k.]{0,2}|stück"
    r"|text|string|date|number|integer|int|float|varchar(?:\(\d+\))?",
    re.IGNORECASE,
)
"""A unit or a notation: ``EUR``, ``(kg)``, ``dd.mm.yyyy``."""
_SENTENCE_WORDS: Final = 5
_MOST_TOLD: Final = 200
_NEAR: Final = 4
"""Its headings come at most this many rows below a title."""
_KINDS: Final = {
    "total": "a total",
    "note": "a note",
    "headings": "the headings again",
    "units": "a row of units",
    "line": "a line",
}


class OtherRows:
    """Finds the rows that are not recipients, and remembers them.

    Args:
        header: the headings of the list.
        rows: the first rows of the list with content, those above the headings included.
        shown: the name of the list in messages.
        place: returns the place of a row by its number and its line in the file, if it has one.
        totals: the numbers of rows that the program marked as totals of the table.

    """

    def __init__(
        self,
        header: HeaderRow,
        rows: Sequence[NumberedRow],
        shown: str,
        place: Callable[[int, int | None], Place],
        *,
        totals: frozenset[int] = frozenset(),
    ) -> None:
        texts = dict(rows)
        self._header = header
        self._headings = [_folded(cell) for cell in texts.get(header.row, ())]
        self._titles = {_folded(text) for _, text in header.above}
        self._shown = shown
        self._place = place
        self._totals = totals
        below = [cells for number, cells in rows if number > header.row]
        found = address_columns([*texts.get(header.row, ())], below)
        self.addresses = found[0].position if found and found[0].addresses else -1
        """The position of the column whose cells identify recipients; -1: there are no addresses."""
        self.columns = tuple(column.position for column in found if column.addresses)
        """The positions of all columns with addresses, that one first."""
        known = dict(zip(header.kept, header.columns.headings, strict=True))
        self.names = tuple(known[column] for column in self.columns if column in known)
        """Their headings."""
        self._title: tuple[int, str] = (0, "")
        self._found: dict[int, tuple[int | None, str, str]] = {}

    @property
    def sign(self) -> tuple[str, int]:
        """Return what a cell of every row that is plainly a recipient contains, and that cell's position.

        Where no column has addresses, that is every row.
        """
        return ("@", self.addresses) if self.addresses >= 0 else ("", 0)

    def is_other(self, row: int, line: int | None, cells: Sequence[str]) -> bool:
        """Return whether a row of strings is not a recipient, and remember it if so.

        Raises:
            ListError: another list begins there.

        """
        kind = self._kind(row, cells)
        filled = [cell for cell in cells if cell.strip()]
        if kind == "headings":
            self._refuse_another(row, line)
        if len(filled) == 1 and kind != "headings":
            self._title = row, filled[0].strip()
        if kind and row not in self._found and len(self._found) < _MOST_TOLD:
            self._found[row] = line, kind, " ".join(" ".join(filled).split())
        return bool(kind)

    def warnings(self) -> list[Diagnostic]:
        """Return warnings that name the rows that were left out."""
        return [
            Diagnostic(
                "D202",
                f"row {row} ({quoted(text, 40)}) is {_KINDS[kind]}, not a recipient: it is left out",
                "if it is a recipient, give it an address",
                severity=Severity.WARNING,
                place=self._place(row, line),
                row=row,
            )
            for row, (line, kind, text) in sorted(self._found.items())
        ]

    def notes(self) -> list[str]:
        """Return how many rows were left out, a sentence for each kind."""
        counts: dict[str, list[int]] = {}
        for row, (_, kind, _) in sorted(self._found.items()):
            counts.setdefault(kind, []).append(row)
        return [
            f"{plural(len(rows), 'row')} left out, {_KINDS[kind]}: {numbers(rows[:5], more=len(rows) > 5)}"
            for kind, rows in counts.items()
        ]

    def _kind(self, row: int, cells: Sequence[str]) -> str:
        """Return the kind of a row that is not a recipient; empty: it is one."""
        filled = {at: cell.strip() for at, cell in enumerate(cells) if cell.strip()}
        if row in self._totals:
            return "total"
        if self._repeats(filled):
            return "headings"
        if self.addresses < 0 or any(map(AT_SIGN.search, filled.values())):
            return ""
        texts = list(filled.values())
        if all(map(is_rule, texts)) and any(len(text) > 2 for text in texts):
            kind = "line"
        elif self._names_columns(filled):
            kind = "headings"
        elif self._is_total(texts):
            kind = "total"
        elif len(texts) == 1 and len(self._headings) > 1 and _is_note(texts[0]):
            kind = "note"
        else:
            below = row == self._header.row + 1 and self.addresses not in filled
            kind = "units" if below and all(map(_is_unit, texts)) else ""
        return kind

    def _repeats(self, filled: dict[int, str]) -> bool:
        if not filled or len(filled) * 2 < sum(map(bool, self._headings)):
            return False
        width = len(self._headings)
        return all(at < width and self._headings[at] == _folded(cell) for at, cell in filled.items())

    def _names_columns(self, filled: dict[int, str]) -> bool:
        """Return whether a row contains the headings in another language, or of another program."""
        if not understood(filled.get(self.addresses, "")).email:
            return False
        others = [text for at, text in filled.items() if at != self.addresses]
        return sum(map(is_column_word, others)) * 2 >= max(len(others), 1)

    def _is_total(self, texts: Sequence[str]) -> bool:
        at = next((at for at, text in enumerate(texts[:2]) if _has_total(text)), -1)
        few = len(texts) * 2 <= len(self._headings)
        return at >= 0 and (few or all(map(is_figure, [*texts[:at], *texts[at + 1 :]])))

    def _refuse_another(self, row: int, line: int | None) -> None:
        """Refuse headings that recur below a title of their own: two lists are not one."""
        at, title = self._title
        if not at or row - at > _NEAR or _folded(title) in self._titles or _PAGE.match(title):
            return
        raise ListError(
            f"the headings recur in row {row} of {self._shown}, below {quoted(title, 40)} in row {at}: "
            "these are two lists",
            code="D203",
            hint=f"put each list into a file of its own, or delete row {at}",
            place=self._place(row, line),
            row=row,
        )


def _has_total(text: str) -> bool:
    words = heading_words(text[:100])
    return 0 < len(words) <= 5 and bool(_TOTALS & {words[0], words[-1], "".join(words[:2])})


def _is_unit(text: str) -> bool:
    return _UNIT.fullmatch(text) is not None


def _is_note(text: str) -> bool:
    marked = _COUNT.match(text) or _NOTE.match(text) or _PAGE.match(text)
    return marked is not None or len(text.split()) >= _SENTENCE_WORDS


def _folded(cell: str) -> str:
    return " ".join(cell.split()).casefold()
