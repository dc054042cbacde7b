"""Suggested commands: what a line means to each shell, and that no other place writes any."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mailmerge
from mailmerge.cli import SUMMARIES
from mailmerge.suggest import CannotQuoteError, Invocation, Shell, quote, suggested, users_shell

SOURCES = Path(mailmerge.__file__).parent
CAMPAIGN_COMMANDS = sorted(
    {*SUMMARIES}
    - {"explain", "providers", "sandbox", "suppress", "schema", "completion"}  # which mean no campaign
)

# --- what shells make of a line ---------------------------------------------------------------------------


def c_runtime(line: str) -> list[str]:
    """Cut a command line as Microsoft's C runtime does ("Parsing C command-line arguments")."""
    arguments: list[str] = []
    word, inside, begun, at = "", False, False, 0
    while at < len(line):
        if line[at] in " \t" and not inside:
            if begun:
                arguments.append(word)
            word, begun, at = "", False, at + 1
            continue
        begun = True
        slashes = len(line[at:]) - len(line[at:].lstrip("\\"))
        at += slashes
        if at < len(line) and line[at] == '"':
            word += "\\" * (slashes // 2)
            if slashes % 2:
                word += '"'
            else:
                inside = not inside
            at += 1
        elif slashes:
            word += "\\" * slashes
        else:
            word += line[at]
            at += 1
    return [*arguments, word] if begun else arguments


def cmd(line: str) -> list[str]:
    """Read a line as cmd does: ``%`` pairs, then quotes and carets, and what separates commands."""
    assert not re.search("%[^%]*%", line), "a variable would be put in"
    assert not {*line} & {*"\r\n\0"}
    inside = False
    for char in line:
        inside ^= char == '"'
        assert inside or char not in "&|<>()^", "it means something to cmd"
    assert not inside
    return c_runtime(line)


def powershell(line: str) -> list[str]:
    """Read a line as PowerShell does (about_Quoting_Rules, about_Parsing), and hand it to a program.

    Before 7.3 a word with a space in it is put between quotes, and nothing in it is escaped.
    """
    words: list[str] = []
    for double, bare in re.findall(r'"([^"“”„]*)"|([^ "]+)', line):
        assert not {*double} & {*"$`\r\n"}, "it is replaced"
        assert re.fullmatch(r"[\w./\\:+-]*", bare), "it means something to PowerShell"
        words.append(double or bare)
    return c_runtime(" ".join(f'"{word}"' if " " in word else word for word in words))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_a_posix_line_means_its_words(texts):
    """What can be seen comes back from the standard library's parser, on one line."""
    seen = [text for text in texts if text.isprintable()]
    line = " ".join(quote(text, Shell.POSIX) for text in seen)
    assert shlex.split(line) == seen
    assert "\n" not in line


AWKWARD = st.text(st.sampled_from("ab \\\"'%$`!&|<>^()“”’;,=@{}#~-/.\t\nü"), max_size=12)


@pytest.mark.parametrize("read", [cmd, powershell])
@given(texts=st.lists(AWKWARD, min_size=1, max_size=3))
def test_a_windows_line_means_its_words_or_there_is_none(read, texts):
    """In cmd and in PowerShell, old and new, every word is itself, or it is refused."""
    made = suggested(Invocation("send"), "send", *texts, shell=Shell.WINDOWS)
    if made.runs:
        assert read(made.text) == ["mailmerge", "send", *texts]
    else:
        assert made.text.startswith("the command send ")


@pytest.mark.parametrize(
    ("text", "posix", "windows"),
    [
        ("期中成绩", "期中成绩", "期中成绩"),
        ("Größe_2", "Größe_2", "Größe_2"),
        ("期中 成绩", "'期中 成绩'", '"期中 成绩"'),
        ("期中\u3000成绩", "\"$(printf '期中\\343\\200\\200成绩')\"", None),
        ("成绩（一）", "'成绩（一）'", '"成绩（一）"'),
    ],
)
def test_letters_of_any_script_need_no_quotes(text, posix, windows):
    """A name in Chinese is a word as it is; spaces and marks, wide ones too, are quoted."""
    assert quote(text, Shell.POSIX) == posix
    if windows is not None:
        assert quote(text, Shell.WINDOWS) == windows


@pytest.mark.parametrize("text", ["a\nb", 'say "x"', "$HOME", "a`b", "“x”", "", "C:\\two words\\", "\0"])
def test_what_windows_cannot_say_is_refused(text):
    """A value that one of its shells would read differently is never put into a command."""
    with pytest.raises(CannotQuoteError):
        quote(text, Shell.WINDOWS)


@pytest.mark.parametrize("text", ["a\0b", "ends\n", "\ud800"])
def test_what_posix_cannot_say_is_refused(text):
    """No word of a shell can contain these: the suggestion is an explanation."""
    with pytest.raises(CannotQuoteError):
        quote(text, Shell.POSIX)
    assert not suggested(Invocation("send", text), "send", shell=Shell.POSIX).runs


def test_two_percent_signs_are_one_too_many_for_cmd():
    """One is itself; between two cmd looks for the name of a variable."""
    assert suggested(Invocation("send", "50%"), "send", shell=Shell.WINDOWS).text == 'mailmerge send "50%"'
    assert not suggested(Invocation("send", "%PATH%"), "send", shell=Shell.WINDOWS).runs


def test_the_shell_of_windows_unless_a_posix_one_runs():
    """Git Bash and its like set SHELL."""
    assert users_shell("nt", {"X": "y"}) is Shell.WINDOWS
    assert users_shell("nt", {"SHELL": "/usr/bin/bash"}) is Shell.POSIX
    assert users_shell("posix", {}) is Shell.POSIX


# --- what is repeated -------------------------------------------------------------------------------------


def test_only_flags_that_the_command_has_are_repeated():
    """The ledger's commands have no --where; a value that begins with a dash is tied to its flag."""
    made = Invocation.parsed(
        "send", {"campaign": "-x", "data_where": "a b", "name": "-n", "send_rate": ("5/m",)}
    )

    assert suggested(made, "send").text == "mailmerge send ./-x --where 'a b' --name=-n --rate 5/m"
    assert suggested(made, "resolve").text == "mailmerge resolve ./-x --name=-n"
    assert suggested(made, "preview").text == "mailmerge preview ./-x --where 'a b' --name=-n"


def test_the_recipient_is_given_to_a_test_in_another_way():
    """``test --to`` is whom the test is for: the template goes through --set."""
    made = Invocation.parsed("check", {"message_to": ("{{ a }}", "{{ b }}")})

    assert suggested(made, "test").text == """mailmerge test --set 'message.to=["{{ a }}", "{{ b }}"]'"""


def test_what_a_program_said_without_a_flag_is_not_left_out(campaign_factory):
    """A campaign with values that no flag can give is continued by its program."""
    campaign_factory()
    folder = campaign_factory.folder
    plain = mailmerge.Campaign.from_folder(folder, {"data.where": "x"}, environ=campaign_factory.environ)
    more = mailmerge.Campaign.from_folder(folder, {"vars": {"a": 1}}, environ=campaign_factory.environ)

    assert str(plain.suggested("send")) == f"mailmerge send {folder} --where x"
    assert not more.suggested("send").runs
    assert str(more.suggested("resolve")) == f"mailmerge resolve {folder}"


def test_a_name_that_is_not_utf8_survives_the_ledger():
    """Bytes of a file name that are not text are kept, and written in octal for the shell."""
    made = Invocation("send", "a\udcff")

    assert Invocation.recorded(made.record()) == made
    assert suggested(made, "send", shell=Shell.POSIX).text == "mailmerge send \"$(printf 'a\\377')\""


# --- nobody else writes commands --------------------------------------------------------------------------

COMMAND = re.compile(
    rf"\bmailmerge (?:{'|'.join({*CAMPAIGN_COMMANDS} - {'ledger'})}|ledger (?:move|forget))\b|\bmailmerge $"
)


def literals(path: Path) -> list[str]:
    """Return the strings in a module, docstrings left out."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    documentation = {
        id(node.value)
        for node in nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
    ]


def test_no_other_module_writes_a_command_of_a_campaign():
    """A literal ``mailmerge send`` would mean whichever campaign is in the working directory."""
    found = {
        str(path.relative_to(SOURCES)): text
        for path in SOURCES.rglob("*.py")
        for text in literals(path)
        if COMMAND.search(text)
    }
    assert found == {
        "config/account_secrets.py": "mailmerge ",  # an entry of the keyring
        "suggest.py": "mailmerge login ",  # of an account, not of a campaign
    }


def test_no_page_writes_a_command_of_a_campaign():
    """Pages and their scripts get finished commands."""
    pages = [path for suffix in ("js", "html") for path in SOURCES.rglob(f"*.{suffix}")]
    assert len(pages) > 5
    assert [
        path.name
        for path in pages
        if re.search(r"mailmerge (?:[a-z]+\b|\$)|['\"`]mailmerge['\"`]", path.read_text())
    ] == []
