"""What the columns of a list are used for, where damage matters most.

These are addresses, names in To, greetings and subjects.

A greeting is what a template prints after a word of greeting that begins a line (``Dear``, ``Sehr
geehrte``, ``尊敬的``), or before one that ends it (``様``), and what it prints in its first line if
that consists of values and ends like a greeting: ``{{ salutation }},``. Conditions and markup in
between do not matter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jinja2 import TemplateSyntaxError, nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jinja2 import Environment

GREETING = "in the greeting"

_WORDS = (
    "dear|hello|hi|hey|howdy|good (?:morning|afternoon|evening|day)|greetings|welcome"
    "|sehr geehrte[rs]?|geehrte[rs]?|liebe[rs]?|hallo|guten (?:tag|morgen|abend)|moin|servus"
    "|grüß (?:gott|dich)|grüezi|werte[rs]?"
    "|beste|geachte|hoi|dag|goede(?:morgen|middag|navond)"
    "|cher|chère|bonjour|bonsoir|salut|madame|monsieur"
    "|estimad[oa]s?|querid[oa]s?|apreciad[oa]s?|hola|buenos días|buenas tardes|benvolgu(?:t|da)"
    "|prezad[oa]s?|car[oa]s?|olá|oi|bom dia|boa tarde|exm[oa]\\.?"
    "|gentile|gentilissim[oa]|egregi[oa]|spettabile|ciao|buongiorno|buonasera|salve"
    "|hej|hei|kära|käre|bästa|kære|kjære|hyvä|tere|lugupeetud|sæl|sæll|kæri|kæra"
    "|szanown[yai]|drog[ia]|cześć|dzień dobry|witaj|witam|vážen[ýá]|mil[ýá]|dobrý (?:den|deň)|ahoj"
    "|tisztelt|kedves|szia|stimate|stimată|dragă|bună(?: ziua)?"
    "|poštovan[iao]|drag[ia]|zdravo|bok|spoštovan[ia]|pozdravljen[ia]?|sveiki|labdien|laba diena"
    "|gerbiam(?:as|a)|cienījam(?:ais|ā)"
    "|sayın|merhaba|değerli|sevgili|selam"
    "|уважаем(?:ый|ая|ые|и)|дорог(?:ой|ая|ие)|здравствуйте|привет|добрый день|здравейте|драг[иа]"
    "|шановн(?:ий|а|і)|доброго дня|вітаю|добрий день|поштован[иа]"
    "|αγαπητ[έήοί]|αξιότιμε|γεια(?: σας)?|καλημέρα|καλησπέρα"
    "|عزيزي|عزيزتي|السيد|السيدة|مرحبا|مرحباً|أهلا|السلام عليكم|سلام|جناب|سرکار|שלום|לכבוד|הי"
    "|प्रिय|नमस्ते|आदरणीय|প্রিয়|เรียน|สวัสดี|kính gửi|kính chào|xin chào|chào|thân gửi"
    "|yth\\.?|halo|kepada|mahal na|kamusta"
    "|尊敬的|亲爱的|敬爱的|親愛的|敬愛的|您好|你好|嗨|안녕하세요|친애하는|존경하는|拝啓"
)
_AFTER = "様|さま|さん|殿|先生|先輩|君|님|씨|귀하|女士|小姐|同学|您好|你好|鈞鑒|台鉴|jan|ji|जी"
_OPEN, _CLOSE = "\ue000", "\ue001"
_VALUE = f"{_OPEN}[0-9]+{_CLOSE}"
_VALUES = f"{_VALUE}(?:[^\\n,!:;，！：{_OPEN}]{{0,20}}{_VALUE})*"
_GREETED = re.compile(
    rf"^\W{{0,5}}(?:{_WORDS})(?![\w])[^\n{_OPEN}]{{0,40}}?({_VALUES})"
    rf"|^\W{{0,5}}(?:尊敬的|亲爱的|敬爱的|親愛的|敬愛的|您好|你好|嗨)[^\n{_OPEN}]{{0,10}}({_VALUES})"
    rf"|({_VALUES})[^\S\n]{{0,2}}(?:{_AFTER})",
    re.IGNORECASE | re.MULTILINE,
)
_SALUTATION = re.compile(rf"\s*({_VALUES})[^\n{_OPEN}]{{0,5}}[,!:，！：][^\S\n]*(?:\n|\Z)")
_NUMBER = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_BREAK = re.compile(
    r"<(?:/?(?:p|div|td|th|tr|table|h[1-6]|li|ul|ol|body|section|center|blockquote)\b[^<>]*|br\s*/?)>",
    re.IGNORECASE,
)
_UNSHOWN = re.compile(r"<(head|style|script|title)\b.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")


def greeted(environment: Environment, sources: Iterable[tuple[str, bool]]) -> frozenset[str]:
    """Return the names that greetings print, and the headings in ``row["heading"]``.

    Args:
        environment: parses templates.
        sources: templates, and whether each is HTML.

    """
    found: set[str] = set()
    for source, is_html in sources:
        try:
            tree = environment.parse(source)
        except TemplateSyntaxError:  # reported when it was compiled
            continue
        values: list[nodes.Node] = []
        text = "".join(_flat(tree.body, values))
        known = {
            target: set(_names(node.node, {}))
            for node in tree.find_all(nodes.Assign)
            for target in [getattr(node.target, "name", "")]
        }
        for run in _runs(_lines(text) if is_html else text):
            for number in _NUMBER.findall(run):
                found.update(_names(values[int(number)], known))
    return frozenset(found)


def _lines(html: str) -> str:
    """Return the visible text of an HTML source, a line for each block."""
    shown = " ".join(_UNSHOWN.sub("", html).split())
    lines = _TAG.sub("", _BREAK.sub("\n", shown)).replace("&nbsp;", " ").split("\n")
    return "\n".join(line.strip() for line in lines)


def _runs(text: str) -> Iterator[str]:
    for match in _GREETED.finditer(text):
        yield next(group for group in match.groups() if group)
    if first := _SALUTATION.match(text):
        yield first[1]


def _flat(body: Iterable[nodes.Node], values: list[nodes.Node]) -> Iterator[str]:
    """Yield a template's text with a numbered mark for each value, ignoring its conditions."""
    for node in body:
        if isinstance(node, nodes.TemplateData):
            yield node.data
        elif isinstance(node, nodes.Output):
            yield from _flat(node.nodes, values)
        elif isinstance(node, nodes.Expr):
            values.append(node)
            yield f"{_OPEN}{len(values) - 1}{_CLOSE}"
        elif not isinstance(node, nodes.Macro):
            for name in ("body", "elif_", "else_"):
                yield from _flat(getattr(node, name, ()), values)


def _names(node: nodes.Node, known: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield the names that an expression reads, including those behind ``set``."""
    every = [node, *node.find_all((nodes.Name, nodes.Getitem))]
    for one in every:
        if isinstance(one, nodes.Name):
            yield one.name
            yield from known.get(one.name, ())
        elif isinstance(one, nodes.Getitem) and isinstance(one.arg, nodes.Const):
            yield str(one.arg.value)
