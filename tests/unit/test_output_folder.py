"""The folder of results: what a person edited stays, what is ours is replaced and cleared away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mailmerge import files
from mailmerge.output_folder import RECORD, OutputFolder

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str, **options: Path) -> OutputFolder:
    """Write failed.csv as a run does."""
    out = OutputFolder(folder, **options)
    with out.writing("failed.csv") as path:
        files.write_file(path, text.encode())
    return out


def found(folder: Path) -> dict[str, str]:
    """Read the files that there are."""
    return {path.name: path.read_text() for path in sorted(folder.glob("failed*"))}


def test_what_we_wrote_is_replaced(tmp_path: Path) -> None:
    """One file, however often it is written, and nothing is said."""
    write(tmp_path, "one")
    assert list(write(tmp_path, "two").notes()) == []
    assert found(tmp_path) == {"failed.csv": "two"}


def test_an_edited_file_is_never_overwritten(tmp_path: Path) -> None:
    """The new one has a number, which is said; the next one replaces that."""
    write(tmp_path, "one")
    (tmp_path / "failed.csv").write_text("mine")

    [note] = write(tmp_path, "two").notes()
    assert note == f"{tmp_path / 'failed.csv'} is kept as you edited it: the new one is failed-2.csv"
    write(tmp_path, "three")
    assert found(tmp_path) == {"failed-2.csv": "three", "failed.csv": "mine"}

    (tmp_path / "failed-2.csv").write_text("mine, too")
    write(tmp_path, "four")
    assert found(tmp_path) == {"failed-2.csv": "mine, too", "failed-3.csv": "four", "failed.csv": "mine"}


def test_numbered_files_that_are_out_of_date_are_cleared_away(tmp_path: Path) -> None:
    """Once the edited file is gone there is one file again."""
    write(tmp_path, "one")
    (tmp_path / "failed.csv").write_text("mine")
    write(tmp_path, "two")
    (tmp_path / "failed.csv").unlink()
    write(tmp_path, "three")
    assert found(tmp_path) == {"failed.csv": "three"}


def test_only_what_is_ours_is_removed(tmp_path: Path) -> None:
    """A run without failures leaves the file that a person edited."""
    write(tmp_path, "one")
    (tmp_path / "failed.csv").write_text("mine")
    write(tmp_path, "two")
    OutputFolder(tmp_path).remove("failed.csv")
    assert found(tmp_path) == {"failed.csv": "mine"}


def test_a_file_that_we_never_wrote_is_somebody_elses(tmp_path: Path) -> None:
    """Also one that was there before the first run."""
    (tmp_path / "failed.csv").write_text("theirs")
    write(tmp_path, "one")
    assert found(tmp_path) == {"failed-2.csv": "one", "failed.csv": "theirs"}


def test_the_list_that_is_being_sent_is_spared(tmp_path: Path) -> None:
    """Its rows that are left would be lost with it."""
    write(tmp_path, "one")
    write(tmp_path, "two", spared=tmp_path / "failed.csv")
    assert found(tmp_path) == {"failed-2.csv": "two", "failed.csv": "one"}


@pytest.mark.parametrize(
    "record", ["", "[", "[1]", '{"files": {"failed.csv": 1}}', '{"files": {"../x": "y"}}', "\xff"]
)
def test_a_record_that_cannot_be_read_makes_everything_somebody_elses(tmp_path: Path, record: str) -> None:
    """Nothing is overwritten on a guess, and nothing outside of the folder is touched."""
    write(tmp_path, "one")
    (tmp_path / RECORD).write_bytes(record.encode("latin-1"))
    write(tmp_path, "two")
    assert found(tmp_path) == {"failed-2.csv": "two", "failed.csv": "one"}
    assert list(json.loads((tmp_path / RECORD).read_text())["files"]) == ["failed-2.csv"]


def test_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    """No person edits a link."""
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "failed.csv").symlink_to(tmp_path / "target")
    write(tmp_path / "out", "one")
    assert found(tmp_path / "out") == {"failed.csv": "one"}
    assert (tmp_path / "target").read_text() == "theirs"
