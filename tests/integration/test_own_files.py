"""What the campaign needs for itself gets into no message, whatever a cell names and however it is linked."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

import pytest

from mailmerge.campaign import Campaign
from mailmerge.check.diagnostics import stops
from mailmerge.errors import InputError, SecretLeak
from mailmerge.masking import Secret
from mailmerge.message.attachments import is_image
from mailmerge.model import Severity

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge.campaign.plan import Plan

SECRET = 'CorrectHorse & "Battery" Staple'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
OWN = {
    ".env": f"SMTP_AUTH={SECRET}\n",
    ".env.production": "SMTP_AUTH=x\n",
    "never.txt": "away@example.org\n",
    "layout.txt": "{% block all %}{% endblock %}",
    ".mailmerge/list-1.csv": "rows",
    "out/results.csv": "rows",
    ".ssh/id_rsa": "key",
    "photos/.hidden.png": "key",
}
NAMES = (*OWN, "campaign.toml", "people.csv", "body.txt", "body.html")
CAMPAIGN = """
[data]
source = "people.csv"
suppress = "never.txt"
[message]
from = "me@example.org"
to = "{{ email }}"
subject = "Hi"
text = "body.txt"
html = "body.html"
"""
TAGS = {
    "attached": ("Hi", "<p>Hi</p>", '[[attach]]\npath = "{{ file }}"\nmissing = "skip"\n'),
    "by a pattern": ("Hi", "<p>Hi</p>", '[[attach]]\npath = "{{ file }}*"\nmissing = "skip"\n'),
    "shown": ("Hi", '<p>Hi <img alt="you" width="10" src="{{ file }}"></p>', ""),
    "included": ('Hi {% include [file, "note.txt"] %}', "<p>Hi</p>", ""),
}


def campaign(folder: Path, cells: list[str], how: str) -> Campaign:
    """Make a campaign whose rows name these files."""
    text, html, rule = TAGS[how]
    for name, content in OWN.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    (folder / "photos/ana.png").write_bytes(PNG)
    (folder / "note.txt").write_text("a note")
    (folder / "campaign.toml").write_text(CAMPAIGN + rule)
    (folder / "body.txt").write_text('{% extends "layout.txt" %}{% block all %}' + text + "{% endblock %}")
    (folder / "body.html").write_text(html)
    rows = "".join(f"p{n}@example.org,{cell}\n" for n, cell in enumerate(cells))
    (folder / "people.csv").write_text(f"email,file\n{rows}")
    return Campaign.load(folder, environ={"MAILMERGE_STATE_DIR": str(folder / "state")})


def refused(plan: Plan) -> set[int]:
    """Return the rows that are invalid because of a file of ours."""
    return {row for group in plan.problems if group.first.code in {"A316", "T103"} for row in group.rows}


@pytest.mark.parametrize("how", [how for how in TAGS if how != "included"])
@pytest.mark.parametrize("kind", ["itself", "link", "second name", "dotted"])
@pytest.mark.skipif(sys.platform == "win32", reason="makes links")
def test_e5_nothing_of_ours_gets_into_a_message(tmp_path: Path, how: str, kind: str) -> None:
    """Secrets, lists, templates, ledger, results and hidden files, by their own names and by others."""
    campaign(tmp_path, [], how)
    cells = []
    for n, name in enumerate(NAMES):
        other = f"photos/{n}.png"
        if kind == "link":
            (tmp_path / other).symlink_to(tmp_path / name)
        elif kind == "second name":
            os.link(tmp_path / name, tmp_path / other)
        named = {"itself": name, "dotted": f"photos/.././{name}"}.get(kind, other)
        cells.append(named)
    if kind == "second name":  # of ours by what they are, but nobody can tell it any more
        cells = [
            cell for cell, name in zip(cells, NAMES, strict=True) if not name.startswith((".ssh", "photos"))
        ]
    plan = campaign(tmp_path, cells, how).check()

    assert (refused(plan), plan.ready) == (set(range(2, len(cells) + 2)), 0)


def test_templates_may_include_each_other_and_nothing_else_of_ours(tmp_path: Path) -> None:
    """A cell that names a template has it included; the rest fails for that row."""
    cells = ["layout.txt", "note.txt", *(name for name in NAMES if not name.startswith(("layout", "body")))]
    plan = campaign(tmp_path, cells, "included").check()

    assert plan.ready == 2
    assert {group.first.code for group in plan.problems if group.first.code[0] in "AT"} == {"A316"}


def test_a_cell_that_names_an_unfit_template_is_one_invalid_row(tmp_path: Path) -> None:
    """Files of ours, none at all, broken, undecodable, endless: the other rows are sent."""
    (tmp_path / "broken.txt").write_text("{% if %}")
    (tmp_path / "latin.txt").write_bytes(b"\xfc")
    campaign(tmp_path, [], "shown")
    cells = ["note.txt", ".env", "people.csv", "../x", "gone.txt", "broken.txt", "latin.txt", "body.txt"]
    made = campaign(tmp_path, cells, "included")
    (tmp_path / "body.txt").write_text("Hi {% include file %}")
    plan = made.check()

    assert not any(stops(group.first) for group in plan.problems if group.first.severity is Severity.ERROR)
    assert (plan.ready, {row for group in plan.problems for row in group.rows}) == (1, set(range(3, 10)))


def test_no_hint_leads_to_a_file_of_ours(tmp_path: Path) -> None:
    """What would be refused is not what was meant."""
    campaign(tmp_path, ["Campaign.toml", "photos/anna.png"], "attached")
    (tmp_path / "campaign.toml").write_text(CAMPAIGN + '[[attach]]\npath = "{{ file }}"\n')
    plan = Campaign.load(tmp_path, environ={"MAILMERGE_STATE_DIR": str(tmp_path / "state")}).check()

    hints = [group.first.hint or "" for group in plan.problems if group.first.code == "A301"]
    assert [hint.partition("?")[0] for hint in hints][1:] == ['did you mean "photos/ana.png"']
    assert "campaign.toml" not in hints[0]


def test_what_is_nobody_s_secret_is_sent(tmp_path: Path) -> None:
    """A picture and a note are attached and shown as before; so is a template that all get."""
    assert campaign(tmp_path, ["photos/ana.png"], "shown").check().ready == 1
    assert campaign(tmp_path, ["note.txt"], "attached").check().ready == 1
    with (tmp_path / "campaign.toml").open("a") as file:
        file.write('[[attach]]\npath = "body.txt"\n')
    environ = {"MAILMERGE_STATE_DIR": str(tmp_path / "state")}
    assert Campaign.load(tmp_path, environ=environ).check().files == {2: 1}


@pytest.mark.parametrize(
    ("content", "image"),
    [
        (PNG, True),
        (b"\xff\xd8\xff\xe0 JFIF", True),
        (b"GIF89a", True),
        (b"RIFF\0\0\0\0WEBPVP8 ", True),
        (b'\xef\xbb\xbf<?xml version="1.0"?><svg xmlns="x">', True),
        (b"RIFF\0\0\0\0WAVEfmt ", False),
        (b"SMTP_AUTH=<svg", False),
        (b"<html>", False),
        (b"", False),
    ],
)
def test_e5_an_image_is_known_by_how_it_begins(tmp_path: Path, content: bytes, *, image: bool) -> None:
    """Whatever its name; and one that a cell names is shown only if it is one."""
    assert is_image(content) is image
    made = campaign(tmp_path, ["photos/other.png", "photos/other.txt"], "shown")
    for name in ("other.png", "other.txt"):
        (tmp_path / "photos" / name).write_bytes(content or b" ")
    assert made.check().ready == image


@pytest.mark.parametrize(
    ("how", "cell", "where"),
    [
        ("attached", "photos/copy.txt", 'the file "copy.txt"'),
        ("included", "photos/copy.txt", "the text of the message"),
        ("included", "photos/spread.txt", "the text of the message"),
    ],
)
def test_e6_a_secret_in_a_message_stops_the_run(tmp_path: Path, how: str, cell: str, where: str) -> None:
    """Texts and files are searched for a secret in use, decoded; row and place are named."""
    made = campaign(tmp_path, ["note.txt", cell], how)
    (tmp_path / ".env").write_text(f"SMTP_AUTH='{SECRET}'\n")
    (tmp_path / "photos/copy.txt").write_text(f"my notes: {SECRET}.")
    (tmp_path / "photos/spread.txt").write_text("é" * 30 + SECRET + "中" * 900)
    made = Campaign.load(tmp_path, environ={"MAILMERGE_STATE_DIR": str(tmp_path / "state")})
    messages = made.check().messages()
    next(messages)
    with pytest.raises(SecretLeak, match=f"row 3: {where}") as caught:
        next(messages)
    assert (caught.value.exit_code, SECRET in str(caught.value)) == (6, False)


def test_e6_a_secret_in_a_header_stops_the_run(tmp_path: Path) -> None:
    """Also where the header is folded and encoded; a short secret is not looked for."""
    campaign(tmp_path, ["note.txt"], "attached")
    (tmp_path / ".env").unlink()
    gc.collect()  # what other tests have left of theirs is not in use
    settings = [f"message.subject=Grüße an alle, die das hier lesen können: {SECRET} {{{{ email }}}}"]
    assert list(Campaign.load(tmp_path, environ={}, settings=settings).check().messages())
    secret, short = Secret(SECRET), Secret("alle, die")
    made = Campaign.load(tmp_path, environ={}, settings=settings)
    with pytest.raises(SecretLeak, match="row 2: the header"):
        list(made.check().messages())
    assert secret
    assert short


def test_e5_results_are_not_sent_whatever_the_rule_s_folder(tmp_path: Path) -> None:
    """Neither where `--attach` names them, nor from a rule whose folder is that of the results."""
    campaign(tmp_path, ["note.txt"], "attached")
    for options in ({"attach": [str(tmp_path / "out/results.csv")]}, {"attach": [str(tmp_path / ".env")]}):
        with pytest.raises(InputError, match="is never sent"):
            Campaign.load(tmp_path, options=options, environ={}).check()
