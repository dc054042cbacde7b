"""What a hostile cell costs beside a plain one: python benchmarks/hostile.py [--over MS] [WORD ...].

Each use of a cell (a filter, a header, an address, a path, a condition) is tried with each hostile cell of
131,072 characters, the longest that a list may have. A campaign of one row is checked, with all rules about
messages, and its message built. Promised: no cell costs 50 ms or 50 MB more than a plain one.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge import Campaign
from mailmerge.errors import MailmergeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST = 131_072


def _long(text: str) -> str:
    return (text * (LONGEST // len(text) + 1))[:LONGEST]


CELLS = {
    name: _long(text)
    for name, text in {
        "one letter": "a",
        "blanks": " ",
        "digits": "9",
        "braces": "{",
        "brackets": "[",
        "parentheses": "(",
        "newlines": "\n",
        "lines": "a\n",
        "words": "a ",
        "marks": "\u0301",
        "emoji": "\U0001f600",
        "families": "\U0001f468\u200d",
        "CJK": "\u5f20",
        "RTL": "\u05d0",
        "zero width": "\u200b",
        "no-break": "\u00a0",
        "quotes": '"',
        "backslashes": "\\",
        "tags": "<b>",
        "open tags": "<a ",
        "comments": "<!--",
        "entities": "&amp;",
        "ampersands": "&",
        "links": "http://e.org ",
        "www": "www.",
        "colons": "http:",
        "addresses": "a@x.org, ",
        "at signs": "@",
        "dots": ".",
        "dotted": "a.",
        "encoded words": "=?utf-8?q?a?= ",
        "dashes": "-",
        "commas": ",",
        "semicolons": ";",
        "slashes": "/",
        "folders": "../",
        "percent": "%",
        "format names": "%(",
    }.items()
} | {
    "percent, zeros": "%" + _long("0")[1:],
    "spaces, x": _long(" ")[1:] + "x",
    "x, spaces": "x" + _long(" ")[2:] + "x",
    "letter, marks": "a" + _long("\u0301")[1:],
    "@ at the end": _long("a")[6:] + "@x.org",
    "dots, @": _long("a.")[7:] + "a@x.org",
    "comma, address": _long(",")[7:] + "a@x.org",
    "angle": "a <" + _long("a")[10:] + "@x.org>",
}

_ARGUMENTS = {
    "center": "(80)", "indent": "(2)", "join": "('-')", "replace": "('a', 'b')", "truncate": "(80)",
    "wordwrap": "(20)", "default": "('x', true)", "list": "|length", "int": "(0)", "float": "(0)",
    "format": "('a')", "money": "('EUR')",
}  # fmt: skip
_OTHERS = frozenset(
    {
        "items",
        "dictsort",
        "xmlattr",
        "groupby",
        "selectattr",
        "rejectattr",
        "attr",
        "round",
        "abs",
        "sum",
        "d",
    }
    | {"e", "count", "batch", "slice", "map", "select", "reject", "unique", "sort", "min", "max"}
)
"""Need something else than text, or go through its letters one by one, as the template does."""


def _uses() -> Iterator[tuple[str, dict[str, str]]]:
    from jinja2.filters import FILTERS

    for name in sorted({*FILTERS, "lines", "nl2br", "date", "time", "money", "number"}):
        if name not in _OTHERS:
            yield f"|{name}", {"text": f"{{{{ x|{name}{_ARGUMENTS.get(name, '')} }}}}"}
    for name in ("urlize", "striptags", "lines", "safe", "wordwrap(20)", "title", "tojson", "xmlattr"):
        used = "{{ {'title': x}|xmlattr }}" if name == "xmlattr" else f"{{{{ x|{name} }}}}"
        yield f"HTML |{name}", {"html": f"<p {used if name == 'xmlattr' else ''}>{used}</p>"}
    yield "HTML", {"html": "<p>{{ x }}</p>"}
    yield "HTML style", {"html": "<style>{{ x|safe }}</style><p style='{{ x }}'>a</p>"}
    yield "HTML href", {"html": "<a href='http://e.org/{{ x }}'>a</a><a href='{{ x }}'>b</a>"}
    yield "HTML src", {"html": "<img src='{{ x }}' alt=''>"}
    yield "subject", {"subject": "{{ x }}"}
    yield "to", {"to": "{{ x }}"}
    yield "name", {"to": "{{ x }} <{{ email }}>"}
    yield "cc", {"cc": "{{ x }}"}
    yield "from", {"from": "{{ x }} <a@x.org>"}
    yield "reply_to", {"reply_to": "{{ x }} <a@x.org>"}
    yield "header", {"headers": '{ "X-Note" = "{{ x }}" }'}

    yield "attachment", {"attach": "{{ x }}.pdf"}
    yield "key", {"key": "x"}
    yield "integer", {"types": '{ x = "integer" }'}
    yield "decimal", {"types": '{ x = "decimal" }'}
    yield "date type", {"types": '{ x = "date" }'}
    yield "date format", {"types": '{ x = "date:%d/%m/%Y" }'}
    yield "boolean", {"types": '{ x = "boolean" }'}
    for where in ("x == 'a'", "x|lower|trim", "x|int(0) > 3", "x|wordwrap(9) == 'a'", "'a' in x", "x < 'b'"):
        yield f"where {where}", {"where": where}
    for expression in (
        "x == name",
        "x * 2",
        "x ~ x",
        "x.split()|length",
        "x|float(0) * 2",
        "x > 'a'",
        "x in name",
    ):
        yield f"{{{{ {expression} }}}}", {"text": f"{{{{ {expression} }}}}"}
    yield "if", {"text": "{% if x %}a{% endif %}"}
    yield "for", {"text": "{% for a in x.splitlines() %}a{% endfor %}"}


def campaign(folder: Path, use: dict[str, str], *cells: str) -> Campaign:
    """Write a campaign with a row for each cell."""
    with (folder / "people.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["email", "name", "x"])
        rows.writerows([f"ann{number}@example.org", "Ann", cell] for number, cell in enumerate(cells))
    (folder / "body.txt").write_text(use.get("text", "Hello"))
    (folder / "body.html").write_text(use.get("html", "<p>Hello</p>"))
    data = ['source = "people.csv"']
    data += [f'where = "{use["where"]}"'] if "where" in use else []
    data += [f"types = {use['types']}"] if "types" in use else []
    data += [f'key = "{use["key"]}"'] if "key" in use else []
    message = {"from": "Me <me@example.org>", "subject": "Hello", "to": "{{ email }}"}
    message |= {key: use[key] for key in ("from", "to", "cc", "subject", "reply_to") if key in use}
    lines = [*(f'{key} = "{text}"' for key, text in message.items()), 'text = "body.txt"']
    lines += ['html = "body.html"'] if "html" in use else []
    lines += [f"headers = {use['headers']}"] if "headers" in use else []
    rest = f'[[attach]]\npath = "{use["attach"]}"\nshared = true\n' if "attach" in use else ""
    (folder / "campaign.toml").write_text(
        "\n".join(['name = "spring"', "[data]", *data, "[message]", *lines]) + f"\n{rest}"
    )
    home = str(folder / "home")
    return Campaign.load(
        folder,
        environ={
            "MAILMERGE_STATE_DIR": home,
            "MAILMERGE_CACHE_DIR": home,
            "MAILMERGE_CONFIG": f"{home}/c.toml",
        },
    )


def work(folder: Path, use: dict[str, str], *cells: str) -> str:
    """Check it and build its messages; say what came of it."""
    try:
        # In a folder of its own each time: a plan that was made before would be used again.
        with tempfile.TemporaryDirectory(dir=folder) as own:
            plan = campaign(Path(own), use, *cells).check()
            return f"{sum(message.size for message in plan.messages())} octets"
    except MailmergeError as error:
        return str(error.code)


def seconds(do: Callable[[], object]) -> float:
    """Measure processor time."""
    began = time.process_time()
    do()
    return time.process_time() - began


def peak(do: Callable[[], object]) -> float:
    """Measure the largest memory of Python's objects, in MB."""
    tracemalloc.start()
    do()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6


def main() -> int:
    """Print what a hostile row costs in each use, and every pair that costs more than is promised."""
    parser = argparse.ArgumentParser(prog="hostile")
    parser.add_argument("--over", type=float, default=50, help="milliseconds from which on a pair is printed")
    parser.add_argument("--memory", action="store_true", help="measure memory, not time")
    parser.add_argument("words", nargs="*", help="only uses that contain one of these")
    asked = parser.parse_args()
    unit, scale, measured = ("MB", 1, peak) if asked.memory else ("ms", 1000, seconds)
    broken = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work(folder, {}, "Ann")
        for title, use in _uses():
            if asked.words and not any(word in title for word in asked.words):
                continue
            plain = min(measured(lambda: work(folder, use, "Ann")) for _ in range(2))  # noqa: B023
            together = (measured(lambda: work(folder, use, *CELLS.values())) - plain) * scale  # noqa: B023
            each = together / len(CELLS)
            print(f"{title:26} plain {plain * scale:6.1f} {unit}, a hostile row {each:+8.1f}", flush=True)
            if asked.memory and together < asked.over:  # one that costs too much cannot hide in so little
                continue
            costs: dict[str, float] = {}
            said: dict[str, str] = {}
            for kind, cell in CELLS.items():

                def do() -> None:
                    said[kind] = work(folder, use, cell)  # noqa: B023

                costs[kind] = (measured(do) - plain) * scale
                if costs[kind] > asked.over:  # once more: something else may have used the machine
                    costs[kind] = min(costs[kind], (measured(do) - plain) * scale)
            over = {kind: cost for kind, cost in costs.items() if cost > asked.over}
            broken += len(over)
            for kind, cost in sorted(over.items(), key=lambda pair: -pair[1]):
                print(f"    {kind:16} {cost:+9.1f} {unit}  {said[kind]}", flush=True)
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main())
