"""``mailmerge`` alone in a terminal: from a list to sent letters, one question after another.

Each step is a command, which is shown, and leaves its result in the campaign's folder or in the ledger. So a
person can leave at every question, and is taken to the first step that is not done when they come back.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mailmerge.cli.output import note, out, show_diagnostics
from mailmerge.cli.questions import LEAVE, ask_sender, ask_template, asked, dropped_path, opened, until_right
from mailmerge.errors import MailmergeError
from mailmerge.options import CAMPAIGN_FILE
from mailmerge.suggest import Invocation, login_command, suggested
from mailmerge.text import cut, padded, plural, printable, width

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailmerge.campaign import Campaign
    from mailmerge.options import StockTemplate
    from mailmerge.recipients import RecipientList

_SKIP: Final = frozenset({"s", "skip"})
_BACK: Final = frozenset({"b", "back"})
_AGAIN: Final = "again"
_EDITORS: Final = ("sensible-editor", "nano", "vim", "vi")
_FILLER: Final = frozenset({"M210"})
_WIDEST: Final = 30
"""Cells of a heading that are shown."""


class _Left(Exception):
    """The person has left."""


class _Back(Exception):
    """The person wants the question before this one."""


def guide(run: Callable[[Sequence[str]], int]) -> int:
    """Guide through the steps, whose commands *run* runs; return 0, also where the person has left."""
    out(
        "From your list to sent letters, step by step. Enter continues, s skips a step, b goes back, q quits"
        " (each question shows which of them it accepts; in quotes they are text). Nothing is sent until you"
        " have typed the number of messages."
    )
    path = _Path(run)
    try:
        path.walk()
    except (_Left, click.Abort):
        out("")
        out("You can continue at any time: mailmerge")
    return 0


class _Path:
    """The steps of one campaign."""

    def __init__(self, run: Callable[[Sequence[str]], int]) -> None:
        self._run = run
        self._came_back = False
        self.folder: Path | None = None

    def walk(self) -> None:
        """Go from the first step that is not done to the last one."""
        self.folder = _known_campaign() or self._begin()
        steps: Sequence[tuple[str, Callable[[], str | None]]] = (
            ("Who sends", self._account),
            ("Write", self._write),
            ("Look at every message", self._preview),
            ("A test to yourself", self._test),
            ("Send one", self._send_one),
            ("Send all", self._send_all),
        )
        at = self._first_open()
        while at < len(steps):
            title, step = steps[at]
            out("")
            out(f"{at + 2} of {len(steps) + 1}  {title}")
            answer = step()
            self._came_back = answer in _BACK
            at = max(0, at - 1) if self._came_back else at if answer == _AGAIN else at + 1
        out("")
        self._do("status")

    # --- where we are -------------------------------------------------------------------------------

    def _first_open(self) -> int:
        """Return which step comes next, by the folder and the ledger, and show what is done."""
        campaign = self._campaign()
        if campaign is None:
            return 1
        out(f"The campaign {campaign.name}: {_shown(campaign.file.data.source)}")
        if campaign.status().counts.total:
            return 5
        if not _has_account(campaign):
            return 0
        return 1 if self._unwritten() else 2

    def _campaign(self) -> Campaign | None:
        """Open the campaign; return None if its file has a problem, which is shown."""
        from mailmerge.campaign import Campaign

        assert self.folder is not None
        try:
            return Campaign.load(self.folder, invocation=Invocation("check", self._named()))
        except MailmergeError as error:
            show_diagnostics(error.diagnostics)
            return None

    def _unwritten(self) -> bool:
        """Whether the text is still that of the stock template."""
        body = self._body()
        if body is None:
            return True
        from mailmerge.check.rules.unmerged import UNWRITTEN

        text = body.read_text("utf-8", "replace")
        return any(words in text for words in UNWRITTEN)

    def _body(self) -> Path | None:
        campaign = self._campaign()
        if campaign is None or self.folder is None:
            return None
        message = campaign.file.message
        bodies = (message.text, message.html)
        return next((body for body in bodies if isinstance(body, Path) and body.is_file()), None)

    def _named(self) -> str | None:
        return None if self.folder in {None, Path()} else str(self.folder)

    def _line(self, command: str, *words: str) -> str:
        return str(suggested(Invocation("", self._named()), command, *words))

    def _do(self, command: str, *words: str) -> int:
        """Show a command and run it."""
        out(f"$ {self._line(command, *words)}")
        campaign = self._named()
        return self._run([command, *([campaign] if campaign else []), *words])

    # --- the steps ------------------------------------------------------------------------------------

    def _begin(self) -> Path:
        """Make the campaign's folder from a list and a sender."""
        from mailmerge.campaign.scaffold import make_campaign, refuse_campaign, sample_list
        from mailmerge.cli.init import tell

        out("")
        out("1 of 7  Your list, and who writes")
        recipients: RecipientList | None = None
        reading: dict[str, Any] = {}
        folder, sender, subject = Path(), "", ""
        kind: StockTemplate = "letter"

        def ask_list() -> None:
            nonlocal recipients, reading
            recipients, reading = _ask_list()

        def ask_folder() -> None:
            nonlocal folder
            stem = Path(recipients.shown).stem if recipients else "campaign"
            folder = dropped_path(_answer("A name for the folder of this campaign", _free(stem)))
            refuse_campaign(folder)

        def ask_kind() -> None:
            nonlocal kind
            kind = ask_template(_answer)

        def ask_from() -> None:
            nonlocal sender
            sender = ask_sender(_own_address() or "me@example.org", _answer)

        def ask_subject() -> None:
            nonlocal subject
            subject = _answer("Subject (Enter: you write it later)")

        _one_after_another((ask_list, ask_folder, ask_kind, ask_from, ask_subject))
        made = make_campaign(
            folder,
            recipients or opened(sample_list(), None, {}),
            kind=kind,
            sender=sender,
            subject=subject or None,
            reading=reading,
            copy=recipients is None,
        )
        known = {name: value for name, value in reading.items() if value is not None}
        given: dict[str, tuple[str, ...]] = {f"data_{name}": (str(value),) for name, value in known.items()}
        given |= {"data_source": (recipients.shown,)} if recipients else {}
        words = ["--template", kind, "--from", sender, *(["--subject", subject] if subject else [])]
        out(f"$ {suggested(Invocation('', str(folder), given), 'init', *words)}")
        tell(made)
        return folder

    def _account(self) -> str | None:
        """Find or set up the account, and write it into campaign.toml."""
        from mailmerge.campaign.scaffold import set_account
        from mailmerge.cli.login import offered

        campaign = self._campaign()
        if campaign is None:
            return self._mend()
        if _has_account(campaign):
            out(f"Account: {campaign.file.account or 'SMTP_SERVER of your environment'}")
            return _go(f"To change it, edit {CAMPAIGN_FILE}. Enter to continue") if self._came_back else None
        sender = campaign.file.message.from_ or ""
        out(f"$ {login_command(_plain_address(campaign))}   (Ctrl-C leaves)")
        assert self.folder is not None
        if name := offered(sender, ask=True):
            set_account(self.folder, name)
            out(f'Wrote account = "{name}" into {self.folder / CAMPAIGN_FILE}.')
            return None
        return _go("Without an account you can write and look, not send. Enter to continue")

    def _write(self) -> str | None:
        """Open the text in the editor until the check finds no error, or the person continues."""
        body = self._body()
        if body is None:
            return self._mend()
        out(f"The text is {body}. In it, {{{{ column }}}} becomes the row's cell: {self._columns()}")
        answer = _go("Enter opens it in your editor, s if it is written")
        if answer is None:
            _edit(body)
            answer = _go(f"Save {body.name}; Enter checks all messages, b opens it again")
        if answer in _BACK:
            return _AGAIN if self._unwritten() else answer
        code = self._do("check", "-q")
        if code in {2, 3}:
            answer = _go("Enter opens the text again, s continues with these problems")
            return None if answer in _SKIP else _AGAIN
        if not code:
            out("No errors were found.")
        return None

    def _columns(self) -> str:
        campaign = self._campaign()
        if campaign is None:
            return ""
        try:
            return ", ".join(campaign.definition.open_list().columns.names)
        except MailmergeError as error:
            show_diagnostics(error.diagnostics)
            return ""

    def _preview(self) -> str | None:
        """Serve the page, which is made again after every change, until Ctrl-C."""
        out(f"{self._line('preview', '--watch')} shows every message, and reloads when you save the text.")
        answer = _go("Enter shows them; Ctrl-C then ends the preview and comes back")
        if answer is None:
            self._do("preview", "--watch")
            answer = _go("Enter if they are right, b to write")
        return answer

    def _test(self) -> str | None:
        campaign = self._campaign()
        if campaign is None:
            return self._mend()
        if not _has_account(campaign):
            out("This needs an account first.")
            return "b" if _go("Enter goes back to it, s continues") is None else None
        me = _answered("Send the first message to (your own address) [s/b/q]", _plain_address(campaign))
        if me.lower() in _SKIP | _BACK:
            return me.lower()
        code = self._do("test", "--to", me)
        if code:
            return _AGAIN if _go("It was not sent. Enter tries again, s continues") is None else None
        return _go("Look at it in your mailbox. Enter if it is right, b to go back")

    def _send_one(self) -> str | None:
        answer = _go("Enter sends the first message to its recipient; you are asked once more")
        if answer is None and self._do("send", "--limit", "1") not in {0, 3}:
            return _AGAIN if _go("Enter tries again, s continues") is None else None
        return answer

    def _send_all(self) -> str | None:
        answer = _go("Enter sends the rest; you are asked for the number of messages")
        if answer is None:
            code = self._do("send")
            if code not in {0, 3}:
                raise _Left
        return answer

    def _mend(self) -> str | None:
        """Open campaign.toml, whose problems were shown."""
        assert self.folder is not None
        if _go(f"Enter opens {self.folder / CAMPAIGN_FILE} in your editor") is None:
            _edit(self.folder / CAMPAIGN_FILE)
            _go("Save it; Enter continues")
        return _AGAIN


# --- questions -----------------------------------------------------------------------------------------


def _answered(question: str, default: str = "") -> str:
    """Ask; q leaves, in quotes it is text."""
    answer = asked(question, default)
    if answer.lower() in LEAVE:
        raise _Left
    return answer


def _answer(question: str, default: str = "", *, first: bool = False) -> str:
    """Ask for text; q leaves, b goes back unless it is the *first* question, in quotes they are text."""
    answer = _answered(f"{question} [{'q' if first else 'b/q'}]", default)
    if answer.lower() in _BACK and not first:
        raise _Back
    inner = answer[1:-1]
    quoted = answer[:1] in {'"', "'"} and answer == f"{answer[0]}{inner}{answer[0]}"
    return inner if quoted and inner.lower() in LEAVE | _BACK | _SKIP else answer


def _one_after_another(questions: Sequence[Callable[[], None]]) -> None:
    """Ask until the last question has an answer; b returns to the one before."""
    at = 0
    while at < len(questions):
        try:
            until_right(questions[at])
        except _Back:
            at -= 1
        else:
            at += 1


def _go(question: str) -> str | None:
    """Ask whether to do a step; None: do it."""
    while True:
        answer = _answered(f"{question} [Enter/s/b/q]").lower()
        if not answer or answer in {"y", "yes", "ok"}:
            return None
        if answer in _SKIP | _BACK:
            return answer[0]


def _known_campaign() -> Path | None:
    """Return the campaign in this folder, or one below that the person chooses; None for a new one."""
    if Path(CAMPAIGN_FILE).is_file():
        return Path()
    below = sorted(found.parent for found in Path().glob(f"*/{CAMPAIGN_FILE}") if found.is_file())[:20]
    if not below:
        return None
    for number, folder in enumerate(below, 1):
        out(f"  {number}  {folder}")
    while True:
        answer = _answer(
            "Which campaign to continue, or n for a new one", "1" if len(below) == 1 else "n", first=True
        )
        if answer.lower() in {"n", "new"}:
            return None
        if answer.isascii() and answer.isdigit() and 0 < int(answer) <= len(below):
            return below[int(answer) - 1]
        if (named := Path(answer)) in below:
            return named


def _ask_list() -> tuple[RecipientList | None, dict[str, Any]]:
    """Ask for the list, show how it is understood, and ask again until that is right; None for a sample."""
    text = ""

    def ask() -> tuple[RecipientList | None, dict[str, Any]]:
        nonlocal text
        text = _answer("Your list: drag the file here, or type its name (Enter for a sample)", first=True)
        reading: dict[str, Any] = {}
        return (opened(dropped_path(text), None, reading) if text else None), reading

    recipients, reading = until_right(ask)
    while recipients is not None:
        usable = _show_list(recipients)
        try:
            right = _answer(
                "Is this your list? Enter for yes; or what is different: sheet NAME, header 3, range B3:F40"
            )
        except _Back:
            recipients, reading = until_right(ask)
            continue
        if not right or right.lower() in {"y", "yes"}:
            if usable:
                break
            recipients, reading = until_right(ask)
            continue
        key, _, value = right.partition(" ")
        value = value.strip()
        known = key in {"sheet", "header", "range", "encoding", "delimiter", "key"}
        if not known or not value or (key == "header" and not _is_row(value)):
            note("Write one of them and its value: sheet People, or header 3, range B3:F40, encoding cp1252")
            continue
        changed = {**reading, key: int(value) if key == "header" else value}
        try:
            recipients = opened(dropped_path(text), None, changed)
            reading = changed
        except MailmergeError as error:
            show_diagnostics(error.diagnostics)
    return recipients, reading


def _is_row(text: str) -> bool:
    return len(text) < 8 and text.isascii() and text.isdigit() and int(text) > 0


def _show_list(recipients: RecipientList) -> bool:
    """Show how the list is read: kind, columns, first row; return whether it has addresses."""
    from mailmerge.campaign.scaffold import refuse_without_addresses
    from mailmerge.values import displayed

    rows, first = 0, None
    for recipient in recipients:
        rows += 1
        first = first or recipient
    out(f"{recipients.shown}: {recipients.understanding}; {plural(rows, 'row')}")
    values = [printable(displayed(value)) for value in first.values] if first else []
    headings = [cut(heading, _WIDEST) for heading in recipients.columns.headings[:12]]
    widest = max(map(width, headings), default=0)
    for number, heading in enumerate(headings):
        out(f"  {padded(heading, widest)}  {values[number] if number < len(values) else ''}")
    try:
        refuse_without_addresses(recipients)
    except MailmergeError as error:
        show_diagnostics(error.diagnostics)
        return False
    return True


def _free(stem: str) -> str:
    """Return a folder's name that is not taken."""
    name = "-".join(stem.split()) or "campaign"
    names = (name, f"{name}-mail", *(f"{name}-{number}" for number in range(2, 100)))
    return next((free for free in names if not Path(free).exists()), name)


# --- what is there ---------------------------------------------------------------------------------------


def _shown(source: Path) -> str:
    return printable(str(source))


def _has_account(campaign: Campaign) -> bool:
    from mailmerge.campaign.connect import find_account

    try:
        find_account(campaign.definition)
    except MailmergeError:
        return False
    return True


def _own_address() -> str | None:
    """Return the sender of the only account that there is."""
    from mailmerge.config.accounts import account_names, default_config_path, resolve_account
    from mailmerge.config.environment import Environment

    environment = Environment.read(None)
    try:
        (name,) = account_names(default_config_path(environment))
        account = resolve_account(name, environment=environment)
    except (ValueError, MailmergeError):
        return None
    return str(account.from_) if account.from_ else account.user


def _plain_address(campaign: Campaign) -> str:
    from mailmerge.addresses import AddressError, parse_address_list

    try:
        return str(parse_address_list(campaign.file.message.from_ or "")[0].address)
    except (AddressError, IndexError):
        return ""


def _edit(path: Path) -> None:
    """Open a file in the person's editor, and wait for it to close; without one, show what to do."""
    import subprocess

    from mailmerge.config.environment import child_environment

    command = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if command:
        editors = [shlex.split(command, posix=os.name != "nt")]
    else:
        editors = [["notepad"]] if sys.platform == "win32" else [[name] for name in _EDITORS]
    for words in editors:
        try:
            subprocess.run([*words, str(path)], check=False, env=child_environment())  # noqa: S603
        except OSError as error:
            if command:
                note(f"{command}: {error.strerror}")
        else:
            return
    note(f"Open {path} in your editor. The variable EDITOR can name one.")
