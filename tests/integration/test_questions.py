"""What is asked when a campaign is made: paths as terminals write them, and the list where it is."""

from __future__ import annotations

import os
import tomllib
from typing import Any

import openpyxl
import pytest

from mailmerge.campaign import Campaign
from mailmerge.campaign.outside import about_list
from mailmerge.campaign.scaffold import make_campaign, set_account
from mailmerge.cli.questions import dropped_path
from mailmerge.recipients import open_list

needs_posix = pytest.mark.skipif("sys.platform == 'win32'")
_CELL = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
_ODF = "urn:oasis:names:tc:opendocument:xmlns"
_HIDING = (
    f'<office:document xmlns:office="{_ODF}:office:1.0" xmlns:table="{_ODF}:table:1.0" '
    f'xmlns:text="{_ODF}:text:1.0" office:mimetype="application/vnd.oasis.opendocument.spreadsheet">'
    '<office:body><office:spreadsheet><table:table table:name="S"><table:table-column/>'
    '<table:table-column table:visibility="collapse" table:number-columns-repeated="2"/><table:table-column/>'
    + "".join(
        f"<table:table-row>{''.join(map(_CELL.format, line))}</table:table-row>"
        for line in (("email", "name", "notes", "city"), ("a@example.org", "Ann", "owes money", "Oslo"))
    )
    + "</table:table></office:spreadsheet></office:body></office:document>"
)
_PEOPLE = "email,name\na@example.org,Ann\n"


@needs_posix
@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("people.csv", "people.csv"),
        ("  people.csv ", "people.csv"),
        ("'/x/my people.csv'", "/x/my people.csv"),
        ('"/x/my people.csv"', "/x/my people.csv"),
        (r"/x/my\ people\ \(2\).csv ", "/x/my people (2).csv"),
        (r"/x/O\'Brien.csv", "/x/O'Brien.csv"),
        ("'/x/O'\\''Brien.csv'", "/x/O'Brien.csv"),
        ("/x/O'Brien.csv", "/x/O'Brien.csv"),
        ("file:///x/my%20people.csv", "/x/my people.csv"),
        ("file://localhost/x/%E5%90%8D.csv", "/x/名.csv"),
        ("'file:///x/my%20people.csv'", "/x/my people.csv"),
        ("& '/x/my people.csv'", "/x/my people.csv"),
        ("my people.csv", "my people.csv"),
        ("~/people.csv", "/home/me/people.csv"),
    ],
)
def test_a_file_that_is_dragged_in_is_found(monkeypatch, typed, path):
    """Quoted, with backslashes or as an address: each terminal writes paths in its own way."""
    monkeypatch.setenv("HOME", "/home/me")
    assert str(dropped_path(typed)) == path


@needs_posix
def test_a_file_that_is_called_like_something_quoted_is_itself(tmp_path, monkeypatch):
    """What is there under exactly this name counts before any rule of quoting."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "'a b'").write_text("", encoding="utf-8")
    assert str(dropped_path("'a b'")) == "'a b'"


def campaign(folder, *, copy):
    (folder / "people.csv").write_text(_PEOPLE, encoding="utf-8")
    return make_campaign(folder / "spring", open_list(folder / "people.csv"), copy=copy)


@pytest.mark.parametrize("suffix", ["xlsx", "fods"])
def test_hidden_columns_of_a_sheet_are_not_put_into_the_draft(tmp_path, suffix):
    """They are rarely meant for readers: neither the greeting nor the text has them, and that is said."""
    path = tmp_path / f"people.{suffix}"
    if suffix == "xlsx":
        book: Any = openpyxl.Workbook()
        for line in (["email", "name", "notes", "city"], ["a@example.org", "Ann", "owes money", "Oslo"]):
            book.active.append(line)
        for letter in "BC":
            book.active.column_dimensions[letter].hidden = True
        book.save(path)
    else:
        path.write_text(_HIDING, encoding="utf-8")
    made = make_campaign(tmp_path / "spring", open_list(path))
    draft = "".join(file.read_text("utf-8") for file in (tmp_path / "spring").glob("body.*"))
    assert "city" in draft
    assert "notes" not in draft
    assert "{{ name" not in draft
    assert (
        "Hidden in the sheet, and not put into the draft: name, notes (templates can use them)"
        in made.warnings
    )


def test_a_list_is_named_by_its_path(tmp_path):
    """It stays where it is: there is one list, and no link and no copy of it."""
    made = campaign(tmp_path, copy=False)
    data = tomllib.loads((tmp_path / "spring/campaign.toml").read_text("utf-8"))["data"]
    assert data == {"source": "../people.csv"}
    assert "people.csv" not in made.files
    assert not (tmp_path / "spring/people.csv").exists()


def test_a_copy_says_when_its_original_is_newer(tmp_path):
    """The campaign knows what its list was copied from; saving the same content again is not reported."""
    campaign(tmp_path, copy=True)
    data = tomllib.loads((tmp_path / "spring/campaign.toml").read_text("utf-8"))["data"]
    assert data == {"source": "people.csv", "original": "../people.csv"}
    copy, folder = tmp_path / "spring/people.csv", tmp_path / "spring"
    original = (folder / data["original"]).resolve()
    later = copy.stat().st_mtime + 60
    os.utime(original, (later, later))
    assert list(about_list(copy, folder, original)) == []
    original.write_text(_PEOPLE + "b@example.org,Bo\n", encoding="utf-8")
    os.utime(original, (later, later))
    (told,) = about_list(copy, folder, original)
    assert told.startswith("people.csv is a copy, and ")


@pytest.mark.parametrize("lock", ["~$people.xlsx", "~$ople.xlsx", ".~lock.people.xlsx#"])
def test_a_list_that_is_open_elsewhere_is_told(tmp_path, lock):
    """Excel and LibreOffice leave a file beside it, in which whoever looks can see it."""
    (tmp_path / "people.xlsx").write_bytes(b"")
    assert list(about_list(tmp_path / "people.xlsx", tmp_path)) == []
    (tmp_path / lock).write_bytes(b"")
    (told,) = about_list(tmp_path / "people.xlsx", tmp_path)
    assert told.startswith("people.xlsx is open in a spreadsheet program")


@pytest.mark.parametrize("cloud", ["OneDrive - School", "Dropbox", "Google Drive", "Nextcloud"])
def test_a_list_in_a_cloud_folder_is_told(tmp_path, cloud):
    """It may be an older one than on the server."""
    (tmp_path / cloud).mkdir()
    (tmp_path / cloud / "people.csv").write_text(_PEOPLE, encoding="utf-8")
    (told,) = about_list(tmp_path / cloud / "people.csv", tmp_path)
    assert "is in a cloud folder" in told


@pytest.mark.parametrize(
    "before", ['account = "old"\n', '# account = "gmail"    # a preset\n     # more\n', ""]
)
def test_the_account_is_written_into_the_file(tmp_path, before):
    """In its place, and all else stays as it is."""
    file = tmp_path / "campaign.toml"
    file.write_text(f'name = "x"\n{before}\n[data]\nsource = "account = x"\n# kept\n', encoding="utf-8")
    set_account(tmp_path, 'wo"rk')
    text = file.read_text("utf-8")
    assert tomllib.loads(text) == {"name": "x", "account": 'wo"rk', "data": {"source": "account = x"}}
    assert text.endswith('[data]\nsource = "account = x"\n# kept\n')


def test_a_schema_of_another_version_is_told_with_the_command_that_writes_it(tmp_path):
    """Editors would mark keys that are right; layout and encoding do not count, nor does another's schema."""
    campaign(tmp_path, copy=False)
    schema = tmp_path / "spring/campaign.schema.json"

    def told():
        notices = Campaign.load(tmp_path / "spring").check().notices
        return [notice for notice in notices if "campaign.schema.json" in notice]

    ours = schema.read_text("utf-8")
    assert told() == []
    schema.write_text(ours, encoding="utf-16")
    assert told() == []
    schema.write_text('{"title": "mine"}', encoding="utf-8")
    assert told() == []
    schema.write_text(ours.replace('"group_by"', '"grouped"'), encoding="utf-8")
    (notice,) = told()
    assert notice.endswith(f"is of another version: mailmerge schema > {schema}")
    schema.unlink()
    assert told() == []
