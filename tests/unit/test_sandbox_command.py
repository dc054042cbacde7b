"""``mailmerge sandbox``: where it keeps what arrives."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mailmerge.cli.sandbox import ReceivedFiles, sandbox
from mailmerge.errors import CampaignFileError, FileError
from mailmerge.sandbox import ReceivedMessage

if TYPE_CHECKING:
    from pathlib import Path


def message(to: str, content: bytes = b"new") -> ReceivedMessage:
    """Return a message to one address."""
    return ReceivedMessage("me@example.org", (to,), content, 1)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_numbers_continue_after_a_restart(tmp_path: Path) -> None:
    """A second server with the same folder replaces no message of the first."""
    assert ReceivedFiles(tmp_path / "kept").add(message("a@example.org", b"old")) == 1
    assert ReceivedFiles(tmp_path / "kept").add(message("a@example.org")) == 2
    assert contents(tmp_path / "kept") == {
        "00001-a@example.org.eml": b"old",
        "00002-a@example.org.eml": b"new",
    }


def test_two_servers_at_the_same_time_replace_nothing(tmp_path: Path) -> None:
    """Where another server has used a number for the same address, the next one is taken."""
    first, second = ReceivedFiles(tmp_path), ReceivedFiles(tmp_path)
    assert [first.add(message("a@example.org", b"1")), second.add(message("a@example.org", b"2"))] == [1, 2]
    assert sorted(contents(tmp_path).values()) == [b"1", b"2"]


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    """Files that are not received messages neither count nor change."""
    for name in ("99999.eml", "notes.txt", "00007-plan.txt", "\u0663\u0663\u0663\u0663\u0663-x.eml"):
        (tmp_path / name).write_bytes(b"mine")
    assert ReceivedFiles(tmp_path).add(message("a@example.org")) == 1
    assert list(contents(tmp_path).values()).count(b"mine") == 4


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    """The user named it: messages are kept in the folder that a link leads to."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    ReceivedFiles(tmp_path / "link").add(message("a@example.org"))
    assert contents(tmp_path / "real") == {"00001-a@example.org.eml": b"new"}


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    """What a link with the name of a message leads to is not written to."""
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "kept").mkdir()
    kept = ReceivedFiles(tmp_path / "kept")
    (tmp_path / "kept" / "00001-a@example.org.eml").symlink_to(tmp_path / "victim")
    assert kept.add(message("a@example.org")) == 2
    assert (tmp_path / "victim").read_bytes() == b"mine"


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    """A file cannot keep messages."""
    (tmp_path / "file").touch()
    with pytest.raises(FileError):
        ReceivedFiles(tmp_path / "file")


def test_a_port_that_is_taken_is_one_sentence() -> None:
    """A port that another program listens on is an error with the system's reason, once, and a hint."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = CliRunner().invoke(sandbox, ["--port", str(port)]).exception
    assert isinstance(error, CampaignFileError)
    assert (error.message, error.code) == (f"cannot listen on port {port}: Address already in use", "C490")
