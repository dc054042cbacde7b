"""What people read is plain English: patterns that a foreign accent leaves behind are found by file and line.

Strings, docstrings and comments count, in every kind of file that people read; identifiers, code between
backquotes, addresses of web pages and the code blocks of Markdown do not.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

# What people read: all of these, and the Markdown at the top.
ROOTS = (
    ".github",
    "benchmarks",
    "docs",
    "mailmerge",
    "samples",
    "scripts",
    "templates",
    "Makefile",
    "action.yml",
)

# Texts that are not our words (what a server says, what a pattern recognises, what somebody wrote) are left
# out of the search. (file, text, reason)
EXCEPTIONS: tuple[tuple[str, str, str], ...] = (
    ("mailmerge/bounces/reasons.toml", "address is no longer", "what a server says"),
    ("mailmerge/ledger/schema.py", '"standing"', "the name of a column"),
    ("mailmerge/preview/page/main.js", "standing standing-", "names of classes"),
    ("mailmerge/preview/page/page.css", ".standing", "the name of a class"),
)

_AFTER_TEXT = (
    "alternative|attachment|block|body|cell|column|editor|entry|field|file|format|form|frame|input|line|list|message"
    "|node|page|paragraph|part|run|section|template|variant|version"
)
_AFTER_BLANK = "area|body|cell|column|field|file|line|page|row|sheet|template|value"

# (pattern, what to write instead, only at the beginning of docstrings)
PATTERNS: tuple[tuple[str, str, bool], ...] = (
    (
        r"\bis no\s",
        "is not a valid X, is not an X; X does not exist, no X was found, no longer without `is`",
        False,
    ),
    (
        rf"\ba text\b(?![-/])(?! (?:{_AFTER_TEXT})s?\b)",
        "a string (TOML's word for it), text, the text of ...",
        False,
    ),
    (r"\bhold(?:s|ing)?\b", "contains, keeps, has; is true, applies; accepts; locks", False),
    (r"\bstand(?:s|ing)?\b(?!-?alone|-in\b)", "is, is in, appears; status", False),
    (r"\bmend(?:s|ed|ing)?\b", "fix, correct, repair", False),
    (r"\banew\b", "again, from scratch, a new ...", False),
    (r"\bkeepers?\b", "administrator, owner, operator", False),
    (r"\AGives?\b(?! (?:back|up)\b)", "Return ..., Yield ..., or the noun phrase", True),
    (r"\b(?:go|goes|going|went) on\b(?! (?:an?|it|its|the|top)\b)", "continue, resume", False),
    (r"(?<!\ball )\bat once\b(?! an? )", "immediately; at the same time; implicit TLS", False),
    (r"\bso long\b(?! (?:as|that)\b)", "this long, for that long", False),
    (r"\bstays? so\b", "keeps happening", False),
    (rf"\ba blank\b(?! (?:{_AFTER_BLANK})s?\b)|\bblanks\b", "a space, spaces", False),
    (
        r"\bwhom is\b|\bnobody to ask\b",
        "say what is missing: no recipient given, not running in a terminal",
        False,
    ),
    (r"\bjust now\b", "now, recently, a moment ago", False),
)

_ARGUMENT = re.compile(r"^ +[a-z_]+:|\*[a-z_]+\*", re.MULTILINE)
_CODE = re.compile(r"``.+?``|`[^`\n]+`|https?://[^\s)>\"']+|\b[\w/-]+\.(?:py|md|toml|html|js)\b", re.DOTALL)
# Of SQL only the comments are for people.
_SQL = re.compile(r"^\s*(?:ALTER|CREATE|DELETE|INSERT|PRAGMA|SELECT|UPDATE|WITH)\s", re.MULTILINE)
_SQL_LINE = re.compile(r"^(?!\s*--).*", re.MULTILINE)
_STRINGS = {
    ".toml": re.compile(
        r"""
        \"{3}(?P<a>.*?)\"{3} | '{3}(?P<b>.*?)'{3}
        | "(?P<c>(?:\\.|[^"\\\n])*)" | '(?P<d>[^'\n]*)' | \#(?P<e>[^\n]*)
        """,
        re.DOTALL | re.VERBOSE,
    ),
    ".js": re.compile(
        r"""
        /\*(?P<a>.*?)\*/ | (?<![:\\])//(?P<b>[^\n]*)
        | "(?P<c>(?:\\.|[^"\\\n])*)" | '(?P<d>(?:\\.|[^'\\\n])*)' | `(?P<e>(?:\\.|[^`\\])*)`
        """,
        re.DOTALL | re.VERBOSE,
    ),
}
_HTML_CODE = re.compile(
    r"<style.*?</style>|<script.*?</script>|(?:class|id|for|name|data-[\w-]+)=\"[^\"]*\"", re.DOTALL
)
_MARKDOWN_CODE = re.compile(r"^(?P<fence> *(?:`{3,}|~{3,})).*?^(?P=fence)", re.DOTALL | re.MULTILINE)
_PLAIN = {"", ".cfg", ".css", ".csv", ".eml", ".ini", ".jinja", ".mjml", ".sh", ".txt", ".yaml", ".yml"}
_NAMED = {"Makefile", "LICENSE"}


class Prose(NamedTuple):
    """Text that somebody reads, where it begins, and whether Python has it as a docstring or a string."""

    line: int
    text: str
    docstring: bool = False
    string: bool = False


def _blanked(pattern: re.Pattern[str], text: str) -> str:
    """Return the text without what the pattern matches, its lines where they were."""
    return pattern.sub(lambda found: "`" + "\n" * found[0].count("\n"), text)


def _python(source: str) -> Iterator[Prose]:
    """Yield docstrings, the other strings that are more than a name, and blocks of comments."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                docstrings.add(id(first.value))
                yield Prose(first.lineno, first.value.value, docstring=True)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            text = _SQL_LINE.sub("", node.value) if _SQL.search(node.value) else node.value
            yield from [Prose(node.lineno, text, string=True)] if any(map(str.isspace, text)) else []
    yield from _comments(source)


def _comments(source: str) -> Iterator[Prose]:
    """Yield the comments of Python, those of consecutive lines as one."""
    begins, lines = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if lines and token.start[0] != begins + len(lines):
            yield Prose(begins, "\n".join(lines))
            lines = []
        begins = begins if lines else token.start[0]
        lines.append(token.string.lstrip("#! "))
    if lines:
        yield Prose(begins, "\n".join(lines))


def _quoted(pattern: re.Pattern[str], source: str) -> Iterator[Prose]:
    """Yield strings that are more than a name, and comments, of TOML or JavaScript."""
    for found in pattern.finditer(source):
        text = found[found.lastgroup or 0]
        if any(letter.isspace() for letter in text):
            yield Prose(source.count("\n", 0, found.start()) + 1, text)


def prose(path: Path) -> Iterator[Prose]:
    """Yield what a person reads in a file, nothing for a kind of file that nobody reads."""
    if path.suffix not in {*_PLAIN, *_STRINGS, ".py", ".md", ".html"}:
        return
    try:
        source = path.read_text("utf-8")
    except UnicodeDecodeError:
        return
    first = source.partition("\n")[0]
    if path.suffix == ".py" or (first.startswith("#!") and "python" in first):
        yield from _python(source)
    elif path.suffix in _STRINGS:
        yield from _quoted(_STRINGS[path.suffix], source)
    elif path.suffix == ".md":
        yield Prose(1, _blanked(_MARKDOWN_CODE, source))
    elif path.suffix == ".html":
        yield Prose(1, _blanked(_HTML_CODE, source))
        for script in re.finditer(r"<script[^>]*>(.*?)</script>", source, re.DOTALL):
            before = source.count("\n", 0, script.start(1))
            yield from (one._replace(line=one.line + before) for one in _quoted(_STRINGS[".js"], script[1]))
    else:
        yield Prose(1, source)


def odd(found: Prose, exceptions: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield each pattern that occurs, as "line: what was written; write ..."."""
    text = _blanked(_ARGUMENT, found.text) if found.docstring else found.text
    text = _blanked(_CODE, text)
    for exception in exceptions:
        text = text.replace(exception, "`" + "\n" * exception.count("\n"))
    words = list(re.finditer(r"[^\s#>*]+", text))
    joined = " ".join(word[0] for word in words)
    for pattern, advice, only_docstrings in PATTERNS:
        if only_docstrings and not found.docstring:
            continue
        for match in re.finditer(pattern, joined, re.IGNORECASE):
            word = words[joined.count(" ", 0, match.start())]
            line = found.line + text.count("\n", 0, word.start())
            around = joined[max(match.start() - 25, 0) : match.end() + 25]
            yield f"{line}: ...{around}...: write {advice}"


def _files() -> Iterator[Path]:
    """Yield every file that people read."""
    yield from sorted(ROOT.glob("*.md"))
    for name in ROOTS:
        path = ROOT / name
        yield from [path] if path.is_file() else sorted(one for one in path.rglob("*") if _is_read(one))
    yield from sorted((ROOT / "tests").rglob("*.py"))


def _is_read(path: Path) -> bool:
    """Return whether it is a file, and not one that Python, a build or a run of ours has made."""
    made = {"__pycache__", "node_modules", "out", ".mailmerge"}
    return path.is_file() and not made & set(path.relative_to(ROOT).parts)


def _listed() -> list[str]:
    """Return everything odd as "file:line: ..."."""
    found: list[str] = []
    for path in _files():
        name = path.relative_to(ROOT).as_posix()
        exceptions = tuple(text for file, text, _ in EXCEPTIONS if file == name)
        inside_tests = name.startswith("tests/")  # their strings are mostly what programs print or read
        for one in prose(path):
            if not (inside_tests and one.string):
                found += [f"{name}:{line}" for line in odd(one, exceptions)]
    return found


@pytest.mark.skipif(not (ROOT / "mailmerge" / "cli").is_dir(), reason="needs the source tree")
def test_what_people_read_is_plain_english() -> None:
    """No file that people read contains one of the patterns."""
    assert _listed() == []


@pytest.mark.skipif(not (ROOT / "mailmerge" / "cli").is_dir(), reason="needs the source tree")
def test_every_exception_is_needed() -> None:
    """Each exception gives its reason, and its text still occurs in the file."""
    gone = [
        (name, text)
        for name, text, reason in EXCEPTIONS
        if not reason or not any(text in one.text for one in prose(ROOT / name))
    ]

    assert gone == []


SAMPLES = (
    "that is no address",
    "that is\n    no address",
    "must be a text",
    "the folder holds a campaign",
    "every row stands in the list",
    "to be mended",
    "planned anew",
    "ask the server's keeper",
    "the run goes on",
    "leave at once",
    "wait so long",
    "if it stays so",
    "a blank or a tab",
    "runs of blanks",
    "whom is the test for?",
    "there is nobody to ask",
    "checked just now",
)
PLAIN = (
    "a text part, a text file",
    "what goes on the wire",
    "all at once",
    "a blank row",
    "as `is no ` says, and ``a text`` too",
    "see https://example.org/hold and standing.py",
)
KINDS = (
    ("a.py", 'x = "{0}"\n'),
    ("a.py", 'x = f"{{y}} {0}"\n'),
    ("a.py", '"""{0}."""\n'),
    ("a.py", 'x = """\nSELECT anew\n-- {0}\n"""\n'),
    ("a.py", "x = 1  # {0}\n"),
    ("a.toml", "# {0}\n"),
    ("a.toml", 'x = "{0}"\n'),
    ("a.html", "<p>{0}</p>\n"),
    ("a.html", "<script>\nsay('{0}')\n</script>\n"),
    ("a.js", "// {0}\n"),
    ("a.js", 'say("{0}")\n'),
    ("a.md", "Text:\n\n{0}\n"),
    ("script", "#!/bin/sh\n# {0}\n"),
)


@pytest.mark.parametrize("sample", SAMPLES)
def test_each_pattern_is_found(sample: str) -> None:
    """Each sample is found once, across a line break, too."""
    assert len(list(odd(Prose(1, sample)))) == 1


@pytest.mark.parametrize("sample", PLAIN)
def test_plain_english_is_not_found(sample: str) -> None:
    """The field's terms, code and addresses of pages are not found."""
    assert list(odd(Prose(1, sample))) == []


@pytest.mark.parametrize(("name", "source"), KINDS)
def test_every_kind_of_file_is_read(tmp_path: Path, name: str, source: str) -> None:
    """A pattern is found, with its line, wherever a person would read it."""
    (tmp_path / name).write_text(source.format("planned anew"))

    found = [line for one in prose(tmp_path / name) for line in odd(one)]

    assert [line.partition(":")[0] for line in found] == [str(source.partition("{0}")[0].count("\n") + 1)]


def test_only_docstrings_begin_with_a_verb_that_is_odd(tmp_path: Path) -> None:
    """A docstring that begins with "Give" is found; a message, a name and a code block are not."""
    source = (
        'def hold(anew):\n    """Give it to *anew*.\n\n    Args:\n        anew: it.\n    """\n'
        '    say("Give it a name")\n    return {"hold": anew}\n'
    )
    (tmp_path / "a.py").write_text(source)
    (tmp_path / "a.md").write_text("```sh\necho hold anew\n```\n")

    found = {name: [line for one in prose(tmp_path / name) for line in odd(one)] for name in ("a.py", "a.md")}

    assert [line.partition(":")[0] for line in found["a.py"]] == ["2"]
    assert found["a.md"] == []
