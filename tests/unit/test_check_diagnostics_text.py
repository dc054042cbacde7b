"""What diagnostics about files say: what was probably meant comes first, doing without comes last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mailmerge.message.file_search import FileProblem, FileSearch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("f/report.pdf", 'did you mean "f/Report 1.pdf"?'),
        ("f/REPORT 1.PDF", 'did you mean "f/Report 1.pdf"?'),
        ("f/Report\u00a01.pdf ", 'did you mean "f/Report 1.pdf"?'),
        ("f/Report  1 .pdf", 'did you mean "f/Report 1.pdf"?'),
        ("F/Report 1.pdf", 'did you mean "f/Report 1.pdf"?'),
        ("f\\Report 1.pdf", 'did you mean "f/Report 1.pdf"?'),
        ("f/Report 1.pdf; Terms.pdf", "that cell names several files"),
        ("f/Terms.pdf, Report 1.pdf", "that cell names several files"),
        ("f/Terms.pdf; f/Report 1.pdf", "that cell names several files"),
        ("f/zzz.docx", "put the file there"),
    ],
)
def test_e4_what_was_meant_is_said_before_doing_without(tmp_path: Path, path: str, hint: str) -> None:
    """A name that is almost right gets the right one as a hint; to send without a file is named last."""
    (tmp_path / "f").mkdir()
    for name in ("Report 1.pdf", "Terms.pdf"):
        (tmp_path / "f" / name).write_text("x")
    with pytest.raises(FileProblem) as caught:
        FileSearch().find(tmp_path, path)
    shown = caught.value.hint or ""

    assert shown.startswith(hint)
    assert "skip" not in shown or shown.endswith('`missing = "skip"`')
