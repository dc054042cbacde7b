"""What is completed for which words; tests/e2e/test_completion.py asks the real shells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mailmerge.cli import cli
from mailmerge.cli.completion import VARIABLE, PowerShell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG = """\
[accounts.work]
host = "smtp.example.org"
[accounts.worship]
host = "smtp.example.org"
[ledgers.office]
url = "postgresql://db.example.org/mail"
"""


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function from words, the last one unfinished, to what may complete it."""
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.setenv("MAILMERGE_CONFIG", str(tmp_path / "config.toml"))
    for name in ("spring", "sprint", "parts/spring"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "campaign.toml").touch()
    (tmp_path / "springs").mkdir()
    monkeypatch.chdir(tmp_path)
    shell = PowerShell(cli, {}, "mailmerge", VARIABLE)
    return lambda *words: [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("sen",), ["send"]),
        (("--vers",), ["--version"]),
        (("send", "--acc"), ["--account", "--accept-changes", "--accept-repeats", "--accounts"]),
        (("send", "--account", "wor"), ["work", "worship", "workspace", "workspace-relay", "workmail"]),
        (("check", "--account=wors"), ["worship"]),
        (("login", "wors"), ["worship"]),
        (("worker", "--accounts", "work,wors"), ["work,worship"]),
        (("send", "--ledger", ""), ["office"]),
        (("status", "s"), ["spring", "sprint"]),
        (("status", "./s"), ["./spring", "./sprint"]),
        (("status", "parts/"), ["parts/spring"]),
        (("status", "springs/x"), ["springs/x"]),
        (("status", "nowhere/x"), ["nowhere/x"]),
        (("send", "--duplicates", "a"), ["allow"]),
        (("ledger", "f"), ["forget"]),
        (("providers", "gma"), ["gmail"]),
        (("explain", "d11"), ["D110", "D112", "D113", "D114", "D115", "D116", "D117", "D118", "D119"]),
    ],
)
def test_values_are_completed(
    complete: Callable[..., list[str]], words: tuple[str, ...], values: list[str]
) -> None:
    """Commands, options and their values are completed; outside a campaign, paths are left to the shell."""
    assert complete(*words) == values


def test_a_configuration_that_cannot_be_read_is_silent(
    complete: Callable[..., list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No error appears between the keys that a person types."""
    for content in ("[accounts.work\n", "accounts = 1\n", None):
        if content is None:
            (tmp_path / "config.toml").unlink()
        else:
            (tmp_path / "config.toml").write_text(content, encoding="utf-8")
        assert complete("send", "--account", "worsh") == []
    assert capfd.readouterr() == ("", "")
