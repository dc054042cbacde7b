"""Whose file is it? Which rows of a list a file's text names, and whether it belongs to another row.

A row is known by its key, its addresses and its full names. A file that names another row and not its own
belongs to that row, unless the name is not evidence:

- What many files name proves nothing: the sender, a teacher, the account manager, a class list.
- What two rows share (a family's address, two people of one name) does not distinguish them.
- A short number, a single word or a name made of words of the language may occur by chance: it counts only if
the other files show that they identify their own rows by such keys or names.

In favour of the row the text is read generously: a name may be reversed, hyphenated, without its accents or
letter-spaced, and the surname alone may be enough. Against it the text is read strictly.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from mailmerge.attachment_guard.words import (
    SHORTEST,
    compact,
    divided_by_addresses,
    is_divided,
    is_key,
    is_name,
    is_unspaced,
    key_form,
    name_form,
    plain,
    sequences,
    spaced_runs,
    unspaced_runs,
    whole,
    word_set,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from mailmerge.attachment_guard.words import Words

Kind = Literal["key", "address", "name"]

_TITLES = word_set(
    "mr mrs ms miss mx dr prof professor sir dame herr frau hr fr dipl ing med phil rer nat mag msc bsc "
    "ba ma mba phd md jr sr ii iii iv mme mlle monsieur madame sr sra srta don dona senor senora sig "
    "sigra dott dottssa mgr bc pan pani dhr mevr"
)
_MOST_OTHERS = 50
"""More are not considered."""
_LIST = 10
"""A file that names more rows is a list of people, which proves little about each of them."""
_MOST_WORDS = 6
"""Most words of a name or a key that are searched for."""
_LONGEST_NAME = 200
_FEW = 2
"""Number of texts up to which none shows what is usual."""
_SAMPLE = 5
_TRUSTED = 0.5
_PIECE = re.compile(r"\d+|[^\W\d_]+|[^\W_]")
_AND = re.compile(r"\s*[;&/\n]\s*|\s+(?:and|und|et|och|og|en)\s+")


_BEFORE = "致尊敬的亲爱親愛"
_AFTER = "先生女士小姐老师老師同学同學様さま殿氏さん님씨귀하"
"""What precedes and follows a name in scripts without spaces."""
ALONE = "="
"""Label of a name in such a script, or of a letter-spaced one, if nothing else is next to it."""


START = "^"
"""Label of what the text of a file begins with."""


class Token(Struct):
    """Something by which rows are identified."""

    kind: Kind
    text: str
    """The text as in the list."""
    rows: list[int]
    """The positions of those rows in the list."""
    sure: bool = True
    """Whether it is unlikely to occur in text by chance."""
    usable: bool = True
    """Whether it can be evidence against a row at all."""
    words: tuple[str, ...] = ()
    """The words of a name, in the form in which they are compared."""


class Sighting(Struct):
    """What a file's text shows about a row to which it is sent."""

    own: frozenset[int]
    """The tokens of that row that it contains."""
    others: tuple[int, ...]
    """Tokens of other rows that it contains, and none of this row's."""
    labels: dict[int, str] = {}
    """By token: the word before it, if any."""
    listed: frozenset[Kind] = frozenset()
    """Kinds of tokens of which it contains so many that it is a list of people."""
    goes_to: tuple[int, ...] = ()
    """The positions of the rows to which it is sent."""
    digest: bytes = b""
    weak: frozenset[str] = frozenset()
    """Words of that row's names that it contains, if it contains none of its tokens."""


class _NamesFound:
    """What a file's text contains from a list."""

    def __init__(self) -> None:
        self.strict: dict[int, str] = {}
        """Tokens that certainly occur, with the word before them."""
        self.lenient: set[int] = set()
        """Those, and others that may occur."""
        self.words: set[str] = set()
        """Words of names that occur."""
        self.small: set[str] = set()
        """Those of them that are written without a capital."""

    def add(self, token: int, label: str = "") -> None:
        """Record a token that certainly occurs."""
        self.lenient.add(token)
        self.strict.setdefault(token, label)


class Mismatch(Struct, frozen=True):
    """A file that belongs to another row."""

    row: int
    """The position of that row in the list."""
    named: tuple[str, ...]
    """The token that names it."""
    more: int = 0
    """How many other rows are named too."""
    sure: bool = True
    """False: there are too few texts to show whether a seller or a teacher is named."""


class Identities:
    """The rows of a list, and what identifies them; then the texts that are sent to them.

    Add all rows, then `see` each text, then `judge` it.

    Args:
        senders: addresses of the sender: a few texts that name one of them are not judged.

    """

    def __init__(self, senders: Iterable[str] = ()) -> None:
        self._senders = frozenset(address.lower() for address in senders)
        self._tokens: list[Token] = []
        self._keys: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._addresses: dict[str, int] = {}
        self._unspaced: dict[str, list[tuple[str, int]]] = {}
        self._joined: dict[str, list[tuple[str, int]]] = {}
        self._key_lengths: dict[str, set[int]] = {}
        self._name_lengths: dict[str, set[int]] = {}
        self._of: dict[int, set[int]] = {}
        self._vocabulary: Counter[str] = Counter()
        """Words of names, and how many rows have them."""
        self._forms: dict[str, tuple[str, str]] = {}
        # What the texts show.
        self._texts = 0
        self._seen: set[bytes] = set()
        self._first: list[Sighting] = []
        """What the first few texts contain."""
        self._rows_seen: set[int] = set()
        self._words_in: Counter[str] = Counter()
        self._small_in: Counter[str] = Counter()
        self._mentioned: Counter[int] = Counter()
        """By token: the number of texts of other rows that contain it and name those rows."""
        self._occurs: Counter[int] = Counter()
        """By token: the number of texts of other rows that contain it."""
        self._labels: Counter[tuple[Kind, str]] = Counter()
        """Words before the tokens by which texts identify their own rows."""
        self._other_labels: Counter[tuple[Kind, str]] = Counter()
        """Words before tokens that may occur by chance."""
        self._asked: Counter[Kind] = Counter()
        self._answered: Counter[Kind] = Counter()
        self._alone: dict[Kind, Counter[int]] = {"key": Counter(), "address": Counter(), "name": Counter()}
        """Tokens that were the only one of their kind in another row's text without its own tokens."""

    # --- rows -----------------------------------------------------------------------------------------

    def add(self, n: int, *, key: str = "", addresses: Iterable[str] = (), names: Iterable[str] = ()) -> None:
        """Add the row at position *n* of the list.

        Args:
            n: its position.
            key: its key; empty: it has none.
            addresses: all of its addresses.
            names: full names; empty ones do not count.

        """
        own = self._of.setdefault(n, set())
        for address in addresses:
            own.add(self._put(self._addresses, address.strip().lower(), "address", address, n))
        if key and "@" not in key:
            self._add_key(own, n, key)
        for name in dict.fromkeys(names):
            self._add_name(own, n, name)
            several = _AND.split(name) if len(name) <= _LONGEST_NAME else ()
            for one in several if len(several) > 1 else ():
                if len(one.split()) > 1:
                    self._add_name(own, n, one)

    def _put(self, index: dict[str, int], form: str, kind: Kind, text: str, n: int) -> int:
        found = index.get(form)
        if found is None:
            found = index[form] = len(self._tokens)
            self._tokens.append(Token(kind, text, [n]))
        elif self._tokens[found].rows[-1] != n:
            self._tokens[found].rows.append(n)
        return found

    def _add_key(self, own: set[int], n: int, key: str) -> None:
        words = [key_form(word) for word in words_of(plain(key)).words]
        if not words or len(words) > _MOST_WORDS:
            return
        form = " ".join(words)
        token = self._put(self._keys, form, "key", key, n)
        own.add(token)
        # E1001 is also written E 1001 and E-1001.
        pieces = [piece for word in words for piece in _PIECE.findall(word)]
        self._keys.setdefault(" ".join(pieces), token)
        for divided in (words, pieces):
            self._key_lengths.setdefault(divided[0], set()).add(len(divided))
        signs = "".join(words)
        digits = sum(sign.isdecimal() for sign in signs)
        length = sum(sign.isalnum() for sign in key)
        kept = self._tokens[token]
        kept.usable = length >= SHORTEST
        if digits == len(signs):
            kept.sure = len(signs) >= 6
        else:
            kept.sure = length >= 4 if digits else False

    def _add_name(self, own: set[int], n: int, name: str) -> None:
        if len(name) > _LONGEST_NAME:
            return
        name = re.sub(r"\([^)]*\)", " ", plain(name)).strip()
        if is_unspaced(name):
            form = compact(name)
            if form:
                known = len(self._tokens)
                token = self._put(self._names, form, "name", name, n)
                if token == known:
                    self._unspaced.setdefault(form[:2], []).append((form, token))
                own.add(token)
                self._tokens[token].usable = len(form) >= 2
                self._tokens[token].sure = len(form) >= 3
            return
        words = [name_form(word) for word in words_of(name).words]
        words = [word for word in words if word not in _TITLES] or words
        if not words or len(words) > _MOST_WORDS:
            return
        before = len(self._tokens)
        # The list or the text may have them reversed: all forms are one token.
        forms = dict.fromkeys((tuple(words), (words[-1], *words[:-1]), (*words[1:], words[0])))
        first = " ".join(words)
        token = self._put(self._names, first, "name", name, n)
        for turned in forms:
            self._names.setdefault(" ".join(turned), token)
            self._name_lengths.setdefault(turned[0], set()).add(len(turned))
        joined = "".join(words)
        if token == before:
            self._join(words, joined, token)
            kept = self._tokens[token]
            kept.words = tuple(words)
            kept.usable = len(joined) >= 3
            kept.sure = len(words) > 1 and len(joined) >= 5
        own.add(token)
        self._vocabulary.update(set(words))

    def _join(self, words: Sequence[str], joined: str, token: int) -> None:
        """Make it match without anything between its words."""
        if len(joined) < 5:
            return
        for form in {joined, words[-1] + "".join(words[:-1])}:
            self._joined.setdefault(form[:4], []).append((form, token))
            if len(words) > 1:
                self._names.setdefault(form, token)
                self._name_lengths.setdefault(form, set()).add(1)

    # --- texts ----------------------------------------------------------------------------------------

    def see(self, text: str, own: Collection[int]) -> Sighting:
        """Examine the text of a file that is sent to the rows at these positions of the list."""
        mine = frozenset(chain.from_iterable(self._of.get(n, ()) for n in own))
        found = self._found(text)
        names = self._own(text, found, mine)
        others = [token for token in found.strict if token not in mine and self._tokens[token].usable]
        others.sort(key=lambda token: self._tokens[token].kind == "name")
        kinds = Counter(self._tokens[token].kind for token in others)
        sighting = Sighting(
            names,
            tuple(others[:_MOST_OTHERS]),
            {
                token: label
                for token in (*names, *others[:_MOST_OTHERS])
                if (label := found.strict.get(token))
            },
            frozenset(kind for kind, count in kinds.items() if count > _LIST),
            tuple(own),
            hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest(),
        )
        if len(self._first) <= _FEW:
            self._first.append(sighting)
        if not names:
            parts = {word for token in mine for word in self._tokens[token].words if len(word) > 2}
            sighting.weak = frozenset(parts & found.words)
        self._count(sighting, mine, own, found)
        return sighting

    def _own(self, text: str, found: _NamesFound, mine: frozenset[int]) -> frozenset[int]:
        """Return a row's own tokens in the text: one that may occur by chance must certainly occur."""
        names = {
            token
            for token in mine & found.lenient
            if self._tokens[token].usable and (self._tokens[token].sure or token in found.strict)
        }
        return frozenset(names or self._generous(text, mine))

    def _found(self, text: str) -> _NamesFound:
        result = _NamesFound()
        plain_text = plain(text)
        readings = [whole(text)]
        if is_divided(plain_text):
            readings.append(plain_text)
        for reading in readings:
            addresses, rest = divided_by_addresses(reading)
            for address in addresses:
                if address in self._addresses:
                    result.add(self._addresses[address])
            self._find(words_of(rest), result)
            for run in spaced_runs(rest):
                self._find_joined(name_form(run), result)
                if (key := self._keys.get(key_form(run))) is not None:
                    result.lenient.add(key)
        if self._unspaced:
            for run in unspaced_runs(readings[0]):
                self._find_unspaced(run, result)
        return result

    def _find(self, found: Words, result: _NamesFound) -> None:
        forms = self._forms
        for word in {*found.words} - forms.keys():
            forms[word] = name_form(word), key_form(word)
        names = [forms[word][0] for word in found.words]
        keys = [forms[word][1] for word in found.words]
        vocabulary = self._vocabulary
        for name, word in zip(names, found.words, strict=True):
            if name in vocabulary:
                result.words.add(name)
                if word[0].islower():
                    result.small.add(name)
        for token, start, end in sequences(names, self._names, self._name_lengths):
            result.lenient.add(token)
            if is_name(found, start, end):
                result.add(token, names[start - 1] if start else START)
        for token, start, end in sequences(keys, self._keys, self._key_lengths):
            result.lenient.add(token)
            if is_key(found, start, end):
                result.add(token, names[start - 1] if start else START)

    def _find_joined(self, run: str, result: _NamesFound) -> None:
        for start in range(len(run) - 4):
            for form, token in self._joined.get(run[start : start + 4], ()):
                if run.startswith(form, start):
                    result.add(token, ALONE if form == run else "")

    def _find_unspaced(self, run: str, result: _NamesFound) -> None:
        for start in range(len(run)):
            for form, token in self._unspaced.get(run[start : start + 2], ()):
                if run.startswith(form, start):
                    result.lenient.add(token)
                    if len(form) > 1:
                        alone = not run[:start].strip(_BEFORE) and not run[start + len(form) :].strip(_AFTER)
                        result.add(token, ALONE if alone else "")

    def _generous(self, text: str, mine: Collection[int]) -> Iterator[int]:
        """Find a row's own tokens wherever their letters follow each other."""
        signs = compact(whole(text)).casefold()
        letters = name_form(signs)
        for number in mine:
            token = self._tokens[number]
            if token.kind == "key":
                form = compact(plain(token.text)).casefold()
                if len(form) >= 6 and form in signs:
                    yield number
            elif token.kind == "name" and token.words:
                form = "".join(token.words)
                turned = token.words[-1] + "".join(token.words[:-1])
                if len(form) >= 6 and (form in letters or turned in letters):
                    yield number

    def _count(
        self,
        sighting: Sighting,
        mine: Collection[int],
        own: Collection[int],
        found: _NamesFound,
    ) -> None:
        """Record what this text shows about the others."""
        if sighting.digest in self._seen:
            return
        self._seen.add(sighting.digest)
        self._texts += 1
        self._words_in.update(found.words)
        self._small_in.update(found.small)
        for token, label in sighting.labels.items():
            labels = self._labels if token in sighting.own else self._other_labels
            labels[self._tokens[token].kind, label] += 1
        # Several files of one row count as one.
        if not self._rows_seen.issuperset(own) or not own:
            self._rows_seen.update(own)
            others = [one for one in sighting.others if self._tokens[one].kind not in sighting.listed]
            self._occurs.update(others)
            if sighting.own:
                self._mentioned.update(others)
        kinds = {self._tokens[token].kind for token in mine if self._tokens[token].usable}
        answered = {self._tokens[token].kind for token in sighting.own}
        self._asked.update(kinds)
        self._answered.update(answered)
        for kind in kinds - answered:
            alone = [token for token in sighting.others if self._tokens[token].kind == kind]
            if len(alone) == 1:
                self._alone[kind][alone[0]] += 1

    def address(self, n: int) -> str:
        """Return an address of a row; empty: it has none."""
        found = (self._tokens[token] for token in sorted(self._of.get(n, ())))
        return next((token.text for token in found if token.kind == "address"), "")

    # --- judgement ------------------------------------------------------------------------------------

    def judge(self, sighting: Sighting) -> Mismatch | None:
        """Return whose text it is, once all were seen; None: no evidence against its own row."""
        evidence = [token for token in sighting.others if self._is_evidence(token, sighting)]
        if not evidence:
            return None
        rows: dict[int, list[int]] = {}
        for token in evidence:
            for row in self._tokens[token].rows[:_MOST_OTHERS]:
                rows.setdefault(row, []).append(token)
        accused = [row for row in rows if not self._is_own(sighting, row, rows[row])]
        if not accused:
            return None
        most = max(accused, key=lambda row: (len(rows[row]), -row))
        named = tuple(self._tokens[token].text for token in rows[most])
        sure = len(self._first) > _FEW or self._is_confirmed(sighting, most, rows[most])
        if not sure and self.address(most).lower() in self._senders:
            return None
        return Mismatch(most, named, len(accused) - 1, sure)

    def _is_confirmed(self, sighting: Sighting, other: int, tokens: Iterable[int]) -> bool:
        """Return whether one of a few texts is certainly another row's, and not the seller's price list.

        A seller is not named by the key of his row; or a row has two equal texts, or the other row's text
        names this row.
        """
        if any(self._tokens[token].kind == "key" for token in tokens):
            return True
        mine = {token for n in sighting.goes_to for token in self._of.get(n, ())}
        return any(
            other in one.goes_to and (one.digest == sighting.digest or mine & {*one.others})
            for one in self._first
        )

    def _is_evidence(self, number: int, sighting: Sighting) -> bool:
        token = self._tokens[number]
        if self._is_common(number) or self._is_wide(token):
            return False
        label = sighting.labels.get(number, "")
        if token.words and all(self._is_in_small_letters(word) for word in token.words):
            return len(token.words) > 1 and (label == ALONE or self._is_trusted(token, label))
        return token.sure or label == ALONE or self._is_trusted(token, label)

    def _is_in_small_letters(self, word: str) -> bool:
        """Return whether it is also a word of the language."""
        return self._small_in[word] >= max(2, self._texts // 50)

    def _is_trusted(self, token: Token, label: str) -> bool:
        """Return whether texts identify their rows by such tokens, with the same word before them."""
        asked, answered, alone = self._asked[token.kind], self._answered[token.kind], self._alone[token.kind]
        if asked >= _SAMPLE:
            if answered >= _TRUSTED * asked:
                return self._is_label(token.kind, label)
            if len(alone) >= 0.9 * asked and alone.total() <= 1.1 * len(alone):
                return (
                    self._other_labels[token.kind, label] >= asked // 2
                )  # every text names exactly one other row: all are in another order
        return (
            asked < 4 * _SAMPLE and token.kind == "key" and len(token.text) > 3 and not token.text.isalpha()
        )

    def _is_label(self, kind: Kind, label: str) -> bool:
        """Return whether texts put this word before the tokens by which they identify their own rows."""
        return label not in {"", ALONE} and self._labels[kind, label] >= max(2, self._texts // 10)

    def _is_common(self, number: int) -> bool:
        """Return whether so many other rows' texts contain it that it is the sender or a teacher."""
        # Of a few texts, at least all but one: the seller may be in a list of two customers.
        many = max(2, min(4, self._texts - 1), self._texts // 20)
        return self._mentioned[number] >= max(_SAMPLE, self._texts // 100) or self._occurs[number] >= many

    def _is_own(self, sighting: Sighting, other: int, tokens: Sequence[int]) -> bool:
        """Return whether the text names its own row by something that the other one does not share."""
        distinct = sighting.own - self._of[other]
        if distinct:
            if not all(self._is_doubtful(token, sighting) for token in distinct):
                return True
            # The sender is named in all texts: their other tokens decide.
            kinds = {self._tokens[token].kind for token in distinct}
            return not any(self._is_decisive(token, sighting, kinds) for token in tokens)
        if sighting.own:
            return False
        theirs = {word for token in self._of[other] for word in self._tokens[token].words}
        weak = [word for word in sighting.weak - theirs if not self._is_usual_word(word)]
        several = len({self._tokens[token].kind for token in tokens}) > 1
        return len(weak) > several

    def _is_doubtful(self, number: int, sighting: Sighting) -> bool:
        """Return whether a row's own token may be in the text for another reason."""
        token, label = self._tokens[number], sighting.labels.get(number, "")
        if token.kind in sighting.listed or (token.kind == "key" and not token.sure):
            return self._texts >= _SAMPLE and not self._is_label(token.kind, label)
        return self._is_common(number) or self._is_wide(token)

    def _is_wide(self, token: Token) -> bool:
        """Return whether so many rows have it that it is a company, a class or a manager, not a person."""
        return len(token.rows) > max(_LIST, len(self._of) // 50)

    def _is_decisive(self, number: int, sighting: Sighting, doubtful: Collection[Kind]) -> bool:
        """Return whether another row's token outweighs doubtful tokens of the text's own row."""
        token = self._tokens[number]
        if token.kind in doubtful:
            return token.kind in sighting.listed and self._is_label(
                token.kind, sighting.labels.get(number, "")
            )
        return self._is_usual(token.kind)

    def _is_usual(self, kind: Kind) -> bool:
        return self._asked[kind] >= _SAMPLE and self._answered[kind] >= 0.8 * self._asked[kind]

    def _is_usual_word(self, word: str) -> bool:
        """Return whether a word of names is in more texts than those of the rows that have it."""
        return self._words_in[word] > 2 * self._vocabulary[word] + max(2, self._texts // 50)
