"""Terminals: columns that stay columns whatever people are called, wrapped lines, colours."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wcwidth import wcswidth

from mailmerge.check.diagnostics import diagnostic_lines
from mailmerge.cli import cli
from mailmerge.cli.output import note, out, show_diagnostics
from mailmerge.cli.terminal import COLOURS, Column, fitted, painted, table, wrapped
from mailmerge.model import Diagnostic, Place, Status
from mailmerge.options import EVERY_COMMAND
from mailmerge.recipients import from_rows
from mailmerge.recipients.understanding import ColumnsSeen
from mailmerge.report.summary import WORDS
from mailmerge.text import cut, padded, printable, width

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = {
    "Latin": ("Ana Lima", 8),
    "Chinese": ("张三丰", 6),
    "rare Chinese": ("𠮷田", 4),
    "full-width digits": ("１２３班", 8),
    "half-width katakana": ("ﾀﾅｶ", 3),
    "Korean, composed": ("김철수", 6),
    "Korean, in letters": ("\u1112\u1161\u11ab", 2),
    "combining accent": ("Jose\u0301", 4),
    "emoji": ("Kim 😀", 6),
    "emoji with a skin": ("👍🏽", 2),
    "emoji by selector": ("❤\ufe0f", 2),
    "text by selector": ("⌚\ufe0e", 1),
    "flag": ("🇨🇳", 2),
    "keycap": ("1\ufe0f\u20e3", 2),
    "Arabic with vowels": ("مُحَمَّد", 4),
    "Hebrew with points": ("שָׁלוֹם", 4),
    "Thai": ("สวัสดี", 4),
    "Hindi": ("हिन्दी", 4),
    "Chinese punctuation": ("李，四", 6),
    "ambiguous": ("α·…", 3),
    "what would steer": ("\x1b[31m", len(r"\x1b[31m")),
}
"""Names as lists have them, each with the cells it takes."""

every_name = pytest.mark.parametrize(("name", "cells"), NAMES.values(), ids=NAMES)


def column_of(line: str, mark: str) -> int:
    """Return the cell of a terminal where *mark* begins."""
    return wcswidth(line[: line.index(mark)])


@every_name
def test_a_name_takes_as_many_cells_as_terminals_give_it(name: str, cells: int) -> None:
    """Wide, joined and combining characters count as terminals count them."""
    assert width(printable(name)) == cells


@every_name
def test_what_is_filled_up_or_cut_has_the_width_that_was_asked_for(name: str, cells: int) -> None:
    """Left, right and cut: never wider, never half a character."""
    assert width(padded(name, 20)) == width(padded(name, 20, right=True)) == 20
    assert padded(name, 20).rstrip() == padded(name, 20, right=True).lstrip() == printable(name)
    assert cut(name, cells) == printable(name)
    for room in range(1, cells):
        assert width(cut(name, room)) <= room
        assert printable(name).startswith(cut(name, room)[:-1].rstrip())


@every_name
def test_columns_of_check_are_columns(name: str, cells: int) -> None:
    """``check -v`` shows what is in each column of the list, below each other."""
    recipients = from_rows([{"email": "a@example.org", name: "one", "x": "two"}])
    seen = ColumnsSeen(recipients.columns)
    list(recipients.watched(seen))
    lines = [line for line in recipients.understood(seen).lines() if "text: " in line]

    assert len(lines) == 3
    assert len({column_of(line, "text: ") for line in lines}) == 1, lines


@every_name
def test_the_caret_is_under_the_name_it_is_about(name: str, cells: int) -> None:
    """Whatever is before it in its line of the template."""
    source = f"Dear {name}\t{{{{ amout }}}}"
    column = source.index("amout") + 1
    place = Place(path="a.txt", line=7, column=column, width=5, source=source)
    _, _, line, carets = diagnostic_lines(Diagnostic("T102", "unknown", place=place))

    assert column_of(line, "amout") == column_of(carets, "^^^^^")


@every_name
def test_a_table_has_straight_columns(name: str, cells: int) -> None:
    """What is right of a name begins below what is right of another one, in any terminal that has room."""
    head = (Column("who"), Column("rows", number=True), Column("why"))
    rows = [(name, "1,234", "MARK"), ("Bo", "5", "MARK")]

    for room in (40, 200):
        shown = ["  ".join(line) for line in table(head, rows, room)]
        assert len({column_of(line, "MARK") for line in shown if "MARK" in line}) == 1
        assert max(map(wcswidth, shown)) <= room


def test_a_narrow_table_goes_on_below() -> None:
    """Each column within its width, nothing lost."""
    head = (Column("state"), Column("rows", number=True), Column("why"), Column("which"))
    words = "550 邮箱不存在，请检查收件人地址是否正确后重新发送"
    rows = [("rejected", "12", words, "rows 2, 3, 5, 8, 13")]
    shown = list(table(head, rows, 40))

    assert max(wcswidth("  ".join(line)) for line in shown) <= 40
    assert "".join("".join(line[2].split()) for line in shown[2:]) == "".join(words.split())


# --- wrapping -----------------------------------------------------------------------------------------

WHOLE = (
    "mailmerge send 春季 --where 'plan == \"gold\"' --limit 1",
    "`mailmerge login me@qq.com`",
    '`{{ first or "there" }}`',
    "https://service.mail.qq.com/detail/0/75?id=1,2",
    "zhang.san@mail.example.org",
    "成绩单/三年级二班/名单.xlsx",
    r"C:\Users\张三\春季\campaign.toml",
    "results.csv",
    "--rows 2-50,77",
)
WORDS_OF_TEXT = st.sampled_from(
    ["a", "row", "rejected", "邮箱不存在，", "请检查（地址）", "“引号”。", "12,345", "😀"]
)


@given(
    st.lists(WORDS_OF_TEXT, max_size=20),
    st.sampled_from([whole for whole in WHOLE if not whole.startswith("--")]),
    st.lists(WORDS_OF_TEXT, max_size=20),
    st.integers(20, 120),
    st.integers(0, 8),
)
@example(["邮箱不存在，"] * 5, WHOLE[0], ["row"], 20, 8)
def test_a_wrapped_line_keeps_whole_what_is_copied(before, whole, after, cells, hang):
    """No command, path or address is broken; no other line is too wide; nothing is lost or invented."""
    tail = "" if whole.startswith("mailmerge") else " " + " ".join(after)
    text = f"{' '.join(before)} {whole}{tail}".strip()
    lines = wrapped(text, cells, hang)

    assert any(whole in line for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    for line in lines:
        assert wcswidth(line) <= cells or whole in line
        assert line.lstrip()[:1] not in tuple("，。）”")
    assert all(line.startswith(" " * hang) for line in lines[1:])


@pytest.mark.parametrize("cells", [40, 60, 200])
@pytest.mark.parametrize(
    ("text", "hang"),
    [
        ("   = hint: " + "write something that is much longer than the terminal is wide " * 4, 11),
        ("  Checked   " + "planned a moment ago, with several errors and warnings " * 5, 12),
        ("error[D110]: " + "this is not an address, and it is said with many words " * 5, 4),
        ("D110  error    " + "what it says of the code in the list of all the codes " * 5, 15),
        (
            "  163      163 Mail (网易 163 邮箱)   "
            + "smtp.163.com:465 and many more of the servers there " * 5,
            11,
        ),
        ("    1. " + "settings, account, services, and there the code is made " * 5, 7),
        ("Next: " + "do this and that, and then something else as well, and so on " * 5, 6),
        ("Nothing special, only a long sentence of one kind or another " * 5, 0),
        ("            " + "what goes on below a label, and is long enough to be wrapped " * 5, 12),
    ],
)
def test_a_long_line_goes_on_under_its_text(text, hang, cells):
    """Behind its label, not at the margin."""
    first, *others = fitted(text.strip("\n").rstrip(), cells)

    assert others
    assert {len(line) - len(line.lstrip()) for line in others} == {hang}
    assert max(map(wcswidth, [first, *others])) <= cells


@pytest.mark.parametrize(
    "line",
    [
        "  --> 我的 文件夹/春季 通知/body.md:12:3 and more of the path of a folder with blanks",
        " 12 | a line of the template, as long as it is, with the caret in the next one",
        "    |                                                      ^^^^^",
        "Report:  /home/张 三/春季 通知/out/report.html and more of the path, which has blanks",
        "$ mailmerge send 'a folder with blanks in its name' --where 'plan == \"gold\"' --limit 1",
    ],
)
def test_a_path_a_code_frame_and_a_command_stay_one_line(line):
    """They are copied as they are, or are read against the next one."""
    assert fitted(line, 40) == [line]


def test_what_is_wider_than_the_terminal_stays_behind_its_label():
    """Below its label it would have no more room."""
    address = "https://help.mail.163.com/faqDetail.do?code=d7a5dc8471cd0c0e8b4b8f4f8e4"

    assert fitted(f"  Page            {address}", 40) == [f"  Page            {address}"]
    assert fitted(f"Next: mailmerge send {address} --limit 1", 40) == [
        f"Next: mailmerge send {address} --limit 1"
    ]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run something with a terminal of 40 columns, and return what it wrote."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")

    def run(show: Callable[[], None], stream: io.StringIO) -> str:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            show()
        return stream.getvalue()

    return run


def test_only_a_terminal_gets_wrapped_lines(shown):
    """In a pipe one message is one line, as `grep` needs it."""
    text = "a sentence that is longer than forty columns, and so does not fit"

    for write in (out, note):
        said = functools.partial(write, text)
        assert shown(said, io.StringIO()) == f"{text}\n"
        assert shown(said, Terminal()).splitlines() == fitted(text, 40) != [text]


def test_every_state_has_its_word_in_its_colour(shown):
    """In a terminal; nothing but the word itself is coloured, and elsewhere there is the word alone."""
    for status in Status:
        text = f"row 2  {WORDS[status]}  550 no"
        said = functools.partial(out, text, status)
        plain, styled = (shown(said, stream) for stream in (io.StringIO(), Terminal()))
        assert plain == f"{text}\n"
        assert re.sub(r"\x1b\[\d*m", "", styled) == plain
        assert ("\x1b" in styled) == (status in COLOURS)
        assert re.fullmatch(rf"row 2  (\x1b\[\d+m)*{WORDS[status]}(\x1b\[0m)?  550 no\n", styled)


def test_another_word_for_a_state_has_its_colour(shown):
    """The rows of `resolve` and the sorts of `bounces` are coloured without the word of their state."""
    said = functools.partial(out, "row 2  hard  no", Status.BOUNCED, word="hard")
    red, plain = COLOURS[WORDS[Status.BOUNCED]], shown(said, io.StringIO())
    assert plain == "row 2  hard  no\n"
    assert shown(said, Terminal()) == plain.replace("hard", click.style("hard", **red))


@pytest.mark.parametrize("before", [0, 3, 38, 60, 200])
@pytest.mark.parametrize("after", [0, 3, 100])
@pytest.mark.parametrize("filler", ["x", "张", "😀"])
def test_a_caret_is_under_its_word_however_long_the_line(shown, before, after, filler):
    """A terminal that is narrower than the line shows the part of it that matters, and wraps neither."""
    source = f"{filler * before}{{{{ amout }}}}{filler * after}"
    place = Place(path="a.txt", line=7, column=before + 4, width=5, source=source)
    show = functools.partial(show_diagnostics, [Diagnostic("T102", "unknown", place=place)])
    _, _, line, carets = shown(show, Terminal()).splitlines()

    assert column_of(line, "amout") == column_of(carets, "^^^^^")
    assert max(wcswidth(line), wcswidth(carets)) <= 40


@pytest.mark.parametrize(
    ("environment", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
    ],
)
def test_colours_are_there_where_they_are_wanted(shown, monkeypatch, environment, terminal, wanted):
    """A terminal that has them; NO_COLOR before FORCE_COLOR."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if terminal else io.StringIO()
    text = shown(lambda: show_diagnostics([Diagnostic("D110", "not an address")]), stream)

    assert text == ("\x1b[31m\x1b[1merror[D110]\x1b[0m" if wanted else "error[D110]") + ": not an address\n"


def test_a_path_with_chinese_brackets_is_not_broken():
    """A terminal continues it; a line end of ours within it would be copied as well."""
    path = "/home/me/成绩单（三年二班）.csv"
    assert any(path in line for line in fitted(f"reads from outside: {path} (the list)", 40))


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_color_decides_before_everything_else(shown, monkeypatch, command):
    """`--color` is an option of every command, wins over the variables, and without it they decide again."""
    words = command.split()
    called = cli.get_command(click.Context(cli), words[0])
    if isinstance(called, click.Group):
        called = called.get_command(click.Context(called), words[1])
    assert called is not None
    only = [option for option in called.params if "--color" in option.opts]
    write = functools.partial(out, f"1 {WORDS[Status.REJECTED]}", Status.REJECTED)
    for value, variable in (("always", "NO_COLOR"), ("never", "FORCE_COLOR"), ("auto", "NO_COLOR")):
        monkeypatch.setenv(variable, "1")
        click.Command("", params=only).main(["--color", value], standalone_mode=False)
        assert ("\x1b" in shown(write, io.StringIO())) == (value == "always")
        assert ("\x1b" in shown(write, Terminal())) == (value == "always")
        monkeypatch.delenv(variable)
    click.Command("", params=only).main([], standalone_mode=False)
    assert "\x1b" in shown(write, Terminal())
    assert "\x1b" not in shown(write, io.StringIO())


def test_a_value_that_looks_like_an_error_is_not_painted():
    """Only the beginning of a line is ours."""
    assert painted("row 2: error[D110]: x") == "row 2: error[D110]: x"
