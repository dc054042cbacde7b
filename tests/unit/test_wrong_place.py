"""A command that does not exist, a campaign that is not where it was looked for: what was meant is named."""

from __future__ import annotations

import pytest

from mailmerge.cli import COMMANDS, OTHER_NAMES, run

_ITS_FOLDER = "its campaign is the folder that it is in: mailmerge check"
_OR_MAKE = "; or make a campaign: mailmerge init --list pupils.csv"
_BESIDE = "there is one next to this folder: mailmerge check ../choir"
_SOME = "there are some in it: choir, grades; for the first: mailmerge send choir"


@pytest.fixture
def folders(tmp_path):
    """Two campaigns beside each other, one with a folder in it, and lists in three places."""
    for name in ("classes/grades", "classes/choir"):
        folder = tmp_path / name
        (folder / "old").mkdir(parents=True)
        (folder / "campaign.toml").write_text("", encoding="utf-8")
        (folder / "people.csv").write_text("email\na@example.org\n", encoding="utf-8")
        (folder / "body.md").write_text("Hi", encoding="utf-8")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/pupils.csv").write_text("email\na@example.org\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("place", "words", "code", "hint"),
    [
        ("classes/grades", "check grades", "C407", "you are in that folder: mailmerge check"),
        ("classes/grades/old", "send grades", "C407", "you are in that folder: mailmerge send .."),
        ("classes/grades", "check choir", "C407", _BESIDE),
        ("classes/grades/old", "send", "C407", "there is one above: mailmerge send .."),
        ("classes", "send", "C407", _SOME),
        ("classes", "check grads", "C407", "did you mean mailmerge check grades?"),
        (".", "preview classes/choirs", "C407", "did you mean mailmerge preview classes/choir?"),
        (".", "check nothing", "C407", "start one: mailmerge init nothing"),
        ("lists", "resume", "C580", "without a fleet, a run that was stopped continues by: mailmerge send"),
        ("lists", "send pupils.csv", "C561", "make one for it: mailmerge init pupils --list pupils.csv"),
        ("lists", "pupils.csv", "C561", "make one for it: mailmerge init pupils --list pupils.csv"),
        ("lists", "init pupils.csv", "C561", "make one for it: mailmerge init pupils --list pupils.csv"),
        ("lists", "init pupil.csv", "C561", "did you mean `pupils.csv`?"),
        ("lists", "init x/no.xlsx", "C561", "with a list that exists: mailmerge init x/no --list x/no.xlsx"),
        ("lists", "init campaign.toml", "C561", "name its folder: start one: mailmerge init ."),
        ("classes/choir", "campaign.toml", "C561", "write mailmerge check campaign.toml"),
        ("lists", "send pupil.csv", "C407", "did you mean `pupils.csv`?"),
        (".", "check classes/choir/people.csv", "C561", _ITS_FOLDER + " classes/choir"),
        ("classes/choir", "check body.md", "C561", _ITS_FOLDER + ""),
        ("lists", "send --list pupils.csv", "C560", "add --subject and --text or --html" + _OR_MAKE),
        ("lists", "check --list pupils.csv --subject Hi", "C560", "add --text or --html" + _OR_MAKE),
    ],
)  # fmt: skip
def test_the_hint_names_the_command_that_was_meant(folders, monkeypatch, capsys, place, words, code, hint):
    """One error with one hint, which can be typed where the person is."""
    monkeypatch.chdir(folders / place)
    assert run(words.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"error[{code}]: ")
    assert lines[1:] == [f"   = hint: {hint}"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("validate", "check"),
        ("dry-run", "rehearse"),
        ("dry_run", "rehearse"),
        ("continue", "send"),
        ("sent", "status"),
        ("chekc", "check"),
        ("Send", "send"),
    ],
)
def test_a_command_that_does_not_exist_is_answered_with_the_one_that_does(capsys, typed, meant):
    """What other programs call it, and what is misspelt."""
    assert run([typed, "folder"]) == 2
    assert f"Unknown command '{typed}'. Did you mean '{meant}'?" in capsys.readouterr().err


def test_help_is_a_command_of_most_programs(capsys):
    """``help`` and ``help send`` are ``--help`` and ``send --help``."""
    assert run(["help", "send"]) == run(["send", "--help"]) == 0
    asked, flagged = capsys.readouterr().out.split("Usage: ")[1:]
    assert asked == flagged
    assert run(["help"]) == 0
    assert "Recommended order" in capsys.readouterr().out


def test_a_text_in_a_campaign_is_not_called_a_list(folders, monkeypatch, capsys):
    """Beside campaign.toml a .txt is a body, elsewhere it may have addresses."""
    monkeypatch.chdir(folders / "classes/choir")
    for name, kind in (("body.txt", "a file"), ("../body.txt", "a list")):
        (folders / "classes/choir" / name).write_text("x", encoding="utf-8")
        assert run(["check", name]) == 2
        assert f"{name} is {kind}, not a campaign" in capsys.readouterr().err


def test_other_names_are_of_commands_and_no_commands():
    """Each leads to a command, and hides none."""
    commands = {name for names in COMMANDS.values() for name in names}
    assert set(OTHER_NAMES.values()) <= commands
    assert not commands & set(OTHER_NAMES)
