"""The library as a program uses it: secrets handed over, rows as mappings, folders of its own choice."""

from __future__ import annotations

import gc
import logging
import math
import quopri
import sys
import traceback
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup
from msgspec.structs import replace

from mailmerge import (
    Account,
    AuthError,
    Campaign,
    CampaignFileError,
    ListError,
    PlanDamaged,
    SendRequest,
    Status,
    send_message,
)
from mailmerge.ledger.ledger import Ledger
from mailmerge.masking import mask_known
from mailmerge.recipients import from_rows
from mailmerge.sending.group_commit import OutcomeListener, program_log
from mailmerge.sending.runs import RunDecision
from servers.mail import Received

SECRET = "tr0ub4dor & 3"
ROWS = [{"email": "ann@example.org", "name": "Ann"}, {"email": "bo@example.org", "name": "Bo"}]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work in an empty folder, with the user's folders beside it."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("MAILMERGE_STATE_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("MAILMERGE_CONFIG", str(tmp_path / "config.toml"))


def spring(rows=ROWS, **options) -> Campaign:
    """Make a campaign of rows."""
    given = {"subject": "Hi {{ name }}", "text": "Dear {{ name }}", "sender": "me@example.org", **options}
    return Campaign.from_rows(rows, **given)


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- secrets


@pytest.mark.parametrize("secret", [SECRET, lambda: SECRET], ids=["text", "callable"])
def test_an_account_never_shows_its_secret(secret):
    """Neither its text nor that of the campaign it sends for has the secret in it, in any spelling."""
    account = Account(host="smtp.example.org", user="me@example.org", secret=secret)
    shown = [repr(account), str(account), f"{account}", repr(spring(name="x", account=account).definition)]
    assert not any(SECRET in text for text in shown)
    assert "secret='****'" in repr(account)
    assert "secret" not in repr(replace(account, secret=None))


def test_what_a_callable_is_made_of_is_not_shown():
    """A callable's own text may have the secret in it."""

    class Vault:
        def __repr__(self):
            return SECRET

        def __call__(self):
            return SECRET

    assert SECRET not in repr(Account(host="smtp.example.org", secret=Vault()))


def test_a_traceback_that_quotes_an_account_s_secret_is_masked():
    """As long as the account is in use, the secret is known to what masks the traceback of a bug."""
    account = Account(host="smtp.example.org", user="me", secret=SECRET)
    shown = "".join(traceback.format_exception(RuntimeError(f"a bug with {SECRET}")))
    assert SECRET not in mask_known(shown)
    del account
    gc.collect()
    assert SECRET in mask_known(shown)


@pytest.mark.parametrize("secret", ["", "two\nlines", "a\0b"])
def test_a_text_that_can_be_no_secret_is_refused_where_it_is_given(secret):
    """The program learns it when it makes the account, not when it sends."""
    with pytest.raises(AuthError, match="the secret from the account"):
        Account(host="smtp.example.org", user="me", secret=secret)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tls": "ssl", "auth": "none"},
            '`tls` of an account must be one of "starttls", "tls", "none", not "ssl"',
        ),
        ({"tls": True}, "`tls` of an account must be one of"),
        ({"auth": "login"}, "`auth` of an account must be one of"),
        ({"pipeline": "yes"}, "`pipeline` of an account must be one of"),
        ({"port": "587"}, "`port` of an account must be a whole number, not "),
        ({"port": 0}, "`port` of an account must be from 1 to 65535"),
    ],
)
def test_an_account_that_cannot_be_meant_is_refused_where_it_is_made(options, message):
    """Above all a word for TLS that is none of ours, which must not mean no encryption."""
    with pytest.raises(CampaignFileError) as caught:
        Account(**{"host": "smtp.example.org", "user": "me@example.org", **options})
    assert caught.value.message.startswith(message)


def test_a_secret_is_a_string_or_returns_one():
    """Anything else is refused where it is given."""
    number: Any = 5
    with pytest.raises(AuthError, match="must be a string or a function that returns one, not int"):
        Account(host="smtp.example.org", user="me", secret=number)


def test_send_message_signs_in_with_the_account_s_secret(account, sandbox, tmp_path, monkeypatch):
    """The secret goes with the account; no variable and no ``.env`` in the working directory counts."""
    (tmp_path / "cwd/.env").write_text("SMTP_AUTH=wrong\n")
    monkeypatch.setenv("SMTP_AUTH", "wrong, too")
    outcome = send_message("ann@example.org", "Hi", "Dear Ann\n", from_="me@example.org", account=account)
    assert outcome.status is Status.ACCEPTED
    assert len(sandbox.messages) == 1


def test_a_callable_is_asked_at_each_sign_in_and_not_before(account, sandbox, tmp_path):
    """A campaign asks for the secret when it connects: planning needs none, the next run gets a new one."""
    asked: list[str] = []

    def secret() -> str:
        asked.append("asked")
        return str(sandbox.password)

    account = replace(account, secret=secret)
    campaign = spring(account=account, state=tmp_path / "s")
    campaign.check()
    assert asked == []
    report = campaign.send()
    assert report is not None
    assert report.counts[Status.ACCEPTED] == 2
    spring([{"email": "cy@example.org", "name": "Cy"}], account=account, state=tmp_path / "t").send()
    assert asked == ["asked", "asked"]


def test_a_callable_that_gives_no_text_is_an_error_of_the_sign_in(account):
    """What is not a string is refused by name of its type, without its contents."""
    wrong = replace(account, secret=SECRET.encode)
    with pytest.raises(AuthError, match="must be a string, not bytes") as caught:
        send_message("ann@example.org", "Hi", "Dear Ann\n", from_="me@example.org", account=wrong)
    assert SECRET not in str(caught.value)


def test_a_secret_is_not_in_the_transcript(account, sandbox, tmp_path):
    """What was handed over is masked like what was found."""
    spring(account=account, state=tmp_path / "s").send(request=SendRequest(transcript=tmp_path / "smtp.txt"))
    written = (tmp_path / "smtp.txt").read_text()
    assert "****" in written
    assert sandbox.password not in written


def test_an_account_can_be_given_to_a_campaign_in_a_folder(account, sandbox, campaign_factory):
    """It counts before the account that the campaign names."""
    campaign_factory()
    campaign = Campaign.load(
        campaign_factory.folder, {"account": "nobody", "message.from": "me@example.org"}, account=account
    )
    report = campaign.send()
    assert report is not None
    assert report.counts[Status.ACCEPTED] == len(sandbox.messages) == 3


# --- rows


def test_any_iterable_of_mappings_is_a_list(account, sandbox, tmp_path):
    """A generator, too, though a list is read several times; the messages are those of the rows."""
    report = spring((dict(row) for row in ROWS), account=account, state=tmp_path / "s").send()
    assert report is not None
    assert report.counts[Status.ACCEPTED] == 2
    received = [Received(m.mail_from, m.rcpt_to, m.content).parse() for m in sandbox.messages]
    assert [(message["To"], message["Subject"]) for message in received] == [
        ("ann@example.org", "Hi Ann"),
        ("bo@example.org", "Hi Bo"),
    ]


def test_the_values_of_rows_are_cells():
    """Numbers, dates and booleans keep their types; what is missing is empty; safe text is plain text."""
    people = from_rows(
        [
            {"email": "a@x.org", "n": 1.50, "when": date(2026, 3, 5), "ok": True, "Full Name": "Ann"},
            {},
            {"email": None, "n": math.nan},
            {"email": Markup("<b>"), "n": Decimal("1.10"), "id": UUID(int=7), "ok": np.True_, "when": pd.NaT},
        ]
    )
    assert people.columns.names == ("email", "n", "when", "ok", "full_name", "id")
    first, last = list(people)
    assert (first.row, last.row) == (2, 5)
    assert [str(cell) for cell in first.fields.values()] == [
        "a@x.org",
        "1.5",
        "2026-03-05",
        "TRUE",
        "Ann",
        "",
    ]
    assert [str(cell) for cell in last.fields.values()] == ["<b>", "1.10", "", "TRUE", "", str(UUID(int=7))]
    assert type(last.fields["email"]) is str
    assert people.blank_rows == 2


class _Whole(IntEnum):
    THREE = 3


class _Amount(Decimal):
    """A number of a program of its own."""


@pytest.mark.parametrize(
    ("given_", "shown"),
    [
        (pd.Timestamp("2026-03-05 09:30"), "2026-03-05 09:30"),
        (pd.Timestamp("2026-03-05 09:30:15.123456789", tz="UTC"), "2026-03-05 09:30:15+00:00"),
        (pd.Timedelta(hours=26, minutes=30), "26:30"),
        (_Whole.THREE, "3"),
        (_Amount("1.50"), "1.50"),
        (Decimal("sNaN"), "-"),
        (Decimal("-Infinity"), "-Infinity"),
    ],
)
def test_values_of_derived_types_are_sent(given_, shown, account, tmp_path):
    """Rows of pandas and other libraries have types of their own, derived from Python's."""
    rows = [{"email": "a@example.org", "name": given_}]
    campaign = spring(
        rows, subject="s", text="Dear {{ name or '-' }}.", account=account, state=tmp_path / "s"
    )
    plan = campaign.plan()
    (message,) = plan.messages()
    assert f"Dear {shown}." in quopri.decodestring(b"".join(message.segments)).decode()
    report = campaign.send(plan)
    assert report is not None
    assert report.counts[Status.ACCEPTED] == 1


def test_rows_do_not_change_after_they_were_given():
    """What a program does to its rows later changes nothing: what was checked is what is sent."""
    rows = [dict(row) for row in ROWS]
    people = from_rows(rows)
    rows[0]["name"] = "Eve"
    rows.clear()
    assert [recipient.fields["name"] for recipient in people] == ["Ann", "Bo"]


def test_a_generator_of_many_rows_is_not_kept_in_memory(tmp_path, monkeypatch):
    """The rows behind the first are in a private file that goes with the list, and come back as they were."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    kinds = [
        {"email": "a@x.org", "n": Decimal("1.10"), "when": datetime(2026, 3, 5, 14, 30), "ok": True},  # noqa: DTZ001
        {"email": "b@x.org", "n": date(2026, 3, 5), "when": time(9, 5), "ok": timedelta(hours=26.5)},
        {"email": "c" * 140_000, "n": -0.0, "when": "00716", "ok": None},
        {"email": "\udce4@x.org", "n": 10**40, "when": "", "ok": False},
    ]

    def shown(rows):
        return [(number - 2, line, *map(repr, cells)) for number, line, cells in rows._records()]

    def repeated(number: int) -> list[tuple[object, ...]]:
        first = shown(from_rows(kinds))
        return [(at, *first[at % 4][1:]) for at in range(number)]

    few, many = from_rows(kinds), from_rows(kinds[at % 4] for at in range(7_002))
    plain = from_rows({**kinds[at % 2], "email": f"{at}@x.org"} for at in range(7_002))
    (folder,) = scratch.iterdir()
    assert few.about_rows() + many.about_rows() == 7_006
    assert shown(many) == repeated(7_002)
    assert [row[2] for row in shown(plain)] == [repr(f"{at}@x.org") for at in range(7_002)]
    assert {row[3:] for row in shown(plain)} == {row[3:] for row in repeated(2)}
    assert (folder.stat().st_mode & 0o777, [path.stat().st_mode & 0o777 for path in folder.iterdir()]) == (
        0o700,
        [0o600],
    )
    del plain
    gc.collect()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "code", "words"),
    [
        ([], "D102", "the rows are empty"),
        ([{}, {}], "D102", "the rows are empty"),
        ([ROWS[0], "bo@example.org"], "D102", "row 3 must be a mapping of headings to values, not str"),
        ([{"email": "a@x.org", "tags": ["a", "b"]}], "D135", "row 2: 'tags' is a list"),
        ([{"Name": "a", "name": "b"}], "D107", "are both `name` in templates"),
    ],
)
def test_rows_that_are_no_list(rows, code, words):
    """The program learns which row, and what is wrong with it."""
    with pytest.raises(ListError, match=words) as caught:
        from_rows(rows)
    assert caught.value.code == code


# --- options


def test_a_key_that_cannot_be_written_is_its_row_s_problem(tmp_path):
    """Half a character (a lone surrogate) makes that row invalid; the others are not affected."""
    rows = [{**row, "id": key} for row, key in zip(ROWS, ("a\ud83d", "b"), strict=True)]
    plan = spring(rows, key="id", state=tmp_path / "s").check()
    assert [group.first.code for group in plan.problems] == ["D118"]
    assert dict(plan.statuses.by_status) == {Status.INVALID: 1, Status.PENDING: 1}


def test_the_arguments_are_those_of_a_campaign_file(tmp_path):
    """Each typed argument is the option of its name; the rest goes by the names of a campaign file."""
    (tmp_path / "a.txt").write_text("attached")
    rows = [*ROWS, {"email": "cy@example.org", "name": "Cy"}]
    campaign = spring(
        rows,
        name="spring",
        html="<p>{{ name }} {{ year }}",
        to="{{ name }} <{{ email }}>",
        cc=["boss@example.org"],
        vars={"year": 2026},
        attach=tmp_path / "a.txt",
        key="name",
        where="name != 'Bo'",
        rate="60/m",
        options={"data.types": {"name": "text"}},
    )
    messages = [Received(str(m.envelope.mail_from), (), m.content).parse() for m in campaign.messages()]
    assert [str(message["To"]) for message in messages] == ["Ann <ann@example.org>", "Cy <cy@example.org>"]
    assert {str(message["Cc"]) for message in messages} == {"boss@example.org"}
    html = messages[0].get_body(("html",))
    assert html is not None
    assert "Ann 2026" in html.get_content()
    assert [part.get_filename() for part in messages[0].iter_attachments()] == ["a.txt"]
    assert campaign.file.data.key == "name"
    assert [rate.count for rate in campaign.file.send.rate] == [60]


def test_an_argument_that_is_not_known_is_a_type_error():
    """As with any function of Python."""
    with pytest.raises(TypeError, match="sbject"):
        spring(name="x", sbject="Hi")
    with pytest.raises(ValueError, match="needs a name, or a state folder"):
        spring()


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"account": 5}, "`account` must be", None),
        ({"send.rate": "often"}, "`send.rate`", None),
        ({"message.text": None}, "no body", "or give `message.text`"),
    ],
)
def test_errors_name_what_a_program_wrote(options, message, hint):
    """A program has no flags: its options are called by their names."""
    whole = {"data.source": "l.csv", "message.subject": "Hi", "message.text": "Dear\n", **options}
    with pytest.raises(CampaignFileError, match=message) as caught:
        Campaign.from_options(whole)
    assert "--" not in f"{caught.value} {caught.value.hint}"
    assert hint is None or hint in str(caught.value.hint)


def test_a_program_without_an_account_is_told_how_to_give_one():
    """The hint is about the argument, not about a flag."""
    with pytest.raises(CampaignFileError) as caught:
        send_message("ann@example.org", "Hi", "Dear Ann\n")
    assert caught.value.hint == "name a preset with account= (see `mailmerge providers`), or set SMTP_SERVER"


# --- folders


def test_looking_writes_nothing_outside_of_state(tmp_path):
    """Check, messages and preview leave the working directory and the user's folders as they are."""
    campaign = spring(state=tmp_path / "state")
    campaign.check()
    assert len(list(campaign.messages())) == 2
    campaign.preview(campaign.workspace.out / "preview.html")
    assert {name.partition("/")[0] for name in everything_in(tmp_path)} == {"cwd", "state"}
    assert everything_in(tmp_path / "cwd") == []
    assert campaign.name == "state"


def test_sending_keeps_ledger_and_results_in_state(account, tmp_path):
    """What happened is there for the next process; nothing is in the working directory."""
    spring(account=account, state=tmp_path / "state").send()
    assert (tmp_path / "state/.mailmerge/ledger.db").exists()
    assert (tmp_path / "state/out/results.csv").exists()
    assert everything_in(tmp_path / "cwd") == []
    again = spring(account=account, state=tmp_path / "state")
    assert again.status().counts[Status.ACCEPTED] == 2
    report = again.send()
    assert report is not None
    assert report.counts[Status.ACCEPTED] == 2


@pytest.mark.parametrize("name", ["spring", "../../etc", "a/b", "..", "住户" * 60, "A" * 200])
def test_without_state_the_name_has_a_folder_of_its_own(tmp_path, name):
    """It is in the user's state folder, whatever the name."""
    campaign = spring(name=name)
    place = campaign.workspace.folder
    assert place.resolve().parent == tmp_path / "user/campaigns"
    assert place != spring(name=f"{name}2").workspace.folder
    assert len(list(campaign.messages())) == 2
    assert everything_in(tmp_path / "cwd") == []


def test_a_frame_has_the_same_arguments(tmp_path):
    """Account, state and typed arguments are those of rows."""
    frame = pd.DataFrame(ROWS)
    campaign = Campaign.from_dataframe(
        frame, subject="Hi", text="Dear {{ name }}", sender="me@example.org", state=tmp_path / "state"
    )
    assert len(list(campaign.messages())) == 2
    assert everything_in(tmp_path / "cwd") == []
    with pytest.raises(CampaignFileError):
        Campaign.from_dataframe(frame, name="x", subject="Hi")


# --- a plan that is looked at, then sent


@pytest.fixture
def letters(tmp_path, account):
    """Open a campaign in a folder of three rows, a template and an attachment for each."""
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "people.csv").write_text("email,name\nann@x.org,Ann\n\nbo@x.org,Bo\nno address,Cy\n")
    (folder / "body.txt").write_text("Dear {{ name }},\n")
    for name in ("Ann", "Bo", "Cy"):
        (folder / f"{name}.txt").write_text(f"for {name}")
    (folder / "campaign.toml").write_text(
        'data.source = "people.csv"\n[message]\nfrom = "me@example.org"\nto = "{{ email }}"\n'
        'subject = "Hi {{ name }}"\ntext = "body.txt"\n[[attach]]\npath = "{{ name }}.txt"\n'
    )
    return Campaign.load(folder, account=account)


def received(sandbox):
    """Return who got what, according to the server."""
    parsed = [Received(m.mail_from, m.rcpt_to, m.content).parse() for m in sandbox.messages]
    bodies = [part.get_content() for message in parsed if (part := message.get_body())]
    return [(str(m["To"]), str(m["Subject"]), body) for m, body in zip(parsed, bodies, strict=True)]


def test_a_plan_says_what_would_be_sent(letters, tmp_path):
    """It has counts, problems and messages, and making it writes only into the cache."""
    before = everything_in(tmp_path)
    plan = letters.plan()
    assert (plan.rows, plan.to_send, plan.ready, plan.statuses[Status.INVALID]) == (3, 2, 2, 1)
    assert [group.first.row for group in plan.problems] == [5]
    assert [str(message.envelope.rcpt_to[0]) for message in plan.messages()] == ["ann@x.org", "bo@x.org"]
    assert everything_in(tmp_path) == before


def test_the_messages_of_a_plan_are_those_that_go_out(letters, sandbox):
    """But for what is only known when they are sent, they are the same octets."""
    plan = letters.plan()
    shown = [message.content for message in plan.messages()]
    letters.send(plan)

    def body(content):
        return content.partition(b"MIME-Version:")[2]

    assert [body(content) for content in shown] == [body(m.content) for m in sandbox.messages]
    assert list(plan.messages()) == []
    letters.send(plan)
    assert len(sandbox.messages) == 2
    letters.requeue(accepted=True)
    for again in (lambda: list(plan.messages()), lambda: letters.send(plan)):
        with pytest.raises(PlanDamaged, match="is not kept any more"):
            again()


@pytest.mark.parametrize("gone", [False, True])
def test_a_plan_is_sent_as_it_was_planned(letters, sandbox, gone):
    """List and templates may change or go meanwhile, and other plans may be made."""
    plan = letters.plan()
    folder = letters.workspace.folder
    (folder / "people.csv").write_text("email,name\neve@x.org,Eve\n")
    (folder / "Eve.txt").write_text("for Eve")
    (folder / "body.txt").write_text("Go away, {{ name }}\n")
    assert [str(m.envelope.rcpt_to[0]) for m in letters.plan().messages()] == ["eve@x.org"]
    if gone:
        (folder / "people.csv").unlink()
    (folder / "body.txt").write_text("{{ broken")
    report = letters.send(plan)
    assert report is not None
    assert received(sandbox) == [
        ("ann@x.org", "Hi Ann", "Dear Ann,\r\n"),
        ("bo@x.org", "Hi Bo", "Dear Bo,\r\n"),
    ]
    assert report.counts[Status.ACCEPTED] == 2
    failed = (folder / "out" / report.failed_name).read_text("utf-8-sig").splitlines()
    assert [line.split(",")[:2] for line in failed] == [["email", "name"], ["no address", "Cy"]]


def test_a_file_that_changed_since_it_was_planned_is_not_sent(letters, sandbox):
    """Attachments are read when they are sent, and have to be what was planned."""
    plan = letters.plan()
    (letters.workspace.folder / "Ann.txt").write_text("for Eve")
    report = letters.send(plan)
    assert report is not None
    assert [to for to, _, _ in received(sandbox)] == ["bo@x.org"]
    assert report.counts[Status.PENDING] == 1


def test_a_plan_of_rows_is_sent(account, sandbox, tmp_path):
    """What was looked at goes out, also where something else was planned in between."""
    campaign = spring((dict(row) for row in ROWS), account=account, state=tmp_path / "s")
    plan = campaign.plan()
    campaign.check()
    list(campaign.messages())
    campaign.send(plan, SendRequest(limit=1))
    assert len(sandbox.messages) == 1
    campaign.send(plan)
    assert [to for to, _, _ in received(sandbox)] == ["ann@example.org", "bo@example.org"]


def test_another_campaign_s_plan_is_refused(account, sandbox, tmp_path):
    """A campaign is a name in a folder; other objects for the same one are the same campaign."""
    plan = spring(account=account, state=tmp_path / "s").plan()
    with pytest.raises(ValueError, match="is that of campaign 's'"):
        spring(account=account, state=tmp_path / "t").send(plan)
    with pytest.raises(ValueError, match="is that of campaign 's'"):
        spring(account=account, state=tmp_path / "s", name="other").send(plan)
    with pytest.raises(ValueError, match="is that of campaign 's'"):
        spring(account=account, state=tmp_path / "s").send(replace(plan, handle=None))
    assert len(sandbox.messages) == 0
    spring(account=account, state=tmp_path / "s").send(plan)
    assert len(sandbox.messages) == 2


def test_a_plan_that_is_gone_is_refused(account, sandbox, tmp_path):
    """Whoever removed the plans is told what to do; nothing else is sent instead."""
    campaign = spring(account=account, state=tmp_path / "s")
    plan = campaign.plan()
    for path in campaign.workspace.cache.iterdir():
        path.unlink()
    for use in (lambda: campaign.send(plan), lambda: list(plan.messages())):
        with pytest.raises(PlanDamaged, match="is not kept any more") as caught:
            use()
        assert "plan() makes a new one" in str(caught.value.hint)
    assert len(sandbox.messages) == 0


# --- outcomes


def test_on_outcome_is_told_what_is_durable(account, tmp_path):
    """One call for each recorded outcome, with the row; what it is told is in the ledger already."""
    told = []
    campaign = spring(account=account, state=tmp_path / "s")

    def on_outcome(settlement):
        with Ledger.open_read_only(campaign.workspace.ledger_path, campaign.name) as ledger:
            counts = ledger.counts()
        told.append((settlement.attempt.address, settlement.status))
        assert counts[Status.ACCEPTED] >= len(told)

    campaign.send(on_outcome=on_outcome)
    assert told == [(row["email"], Status.ACCEPTED) for row in ROWS]


@pytest.mark.parametrize("base", [ListError, KeyboardInterrupt, SystemExit])
def test_a_failing_on_outcome_ends_the_run_and_loses_nothing(base, account, sandbox, tmp_path):
    """What it raises comes out of send, after what was in flight is recorded and the report is written."""
    rows = [{"email": f"a{number}@example.org", "name": "A"} for number in range(50)]
    campaign = spring(rows, account=account, state=tmp_path / "s")

    def on_outcome(_settlement):
        raise base("the program's database is gone")

    with pytest.raises(base, match="the program's database is gone"):
        campaign.send(on_outcome=on_outcome)
    status = campaign.status()
    accepted = status.counts[Status.ACCEPTED]
    assert 0 < accepted == len(sandbox.messages) < 50
    assert status.counts[Status.PENDING] == 50 - accepted
    assert not status.unfinished
    assert (tmp_path / "s/out/results.csv").exists()
    report = campaign.send()
    assert report is not None
    assert report.counts[Status.ACCEPTED] == len(sandbox.messages) == 50


def test_a_callable_that_raises_leaves_a_run_that_has_ended(account, tmp_path):
    """The program's own exception comes out of send, and the ledger does not take the run for killed."""

    def secret() -> str:
        raise OSError("the vault is sealed")

    campaign = spring(account=replace(account, secret=secret), state=tmp_path / "s")
    with pytest.raises(OSError, match="sealed"):
        campaign.send()
    assert not campaign.status().unfinished
    assert campaign.status().counts[Status.PENDING] == 2


def test_outcomes_are_logged_for_whoever_listens(account, tmp_path, caplog):
    """INFO has a line for each outcome; at WARNING there is none; we add no handler."""
    caplog.set_level("INFO", logger="mailmerge")
    spring(account=account, state=tmp_path / "s").send()
    lines = [
        (record.levelname, record.getMessage()) for record in caplog.records if record.name == "mailmerge"
    ]
    assert [level for level, _ in lines] == ["INFO", "INFO"]
    assert lines[0][1].startswith("row 2 <ann@example.org>: accepted, 250 ")
    caplog.clear()
    caplog.set_level("WARNING", logger="mailmerge")
    spring(account=account, state=tmp_path / "t", subject="Another one").send()
    assert not [record for record in caplog.records if record.name == "mailmerge"]
    assert logging.getLogger("mailmerge").handlers == []


def test_pauses_and_new_connections_are_warnings(caplog):
    """A run that waits reports that, and why; one that continues reports nothing."""
    caplog.set_level("WARNING", logger="mailmerge")
    listener = OutcomeListener(None, program_log())
    listener.warn(RunDecision(pause=60.0), "421 4.7.0 too fast")
    listener.warn(RunDecision(reconnect=2.0), "the connection was lost")
    listener.warn(RunDecision(answered=True), "250 ok")
    assert [record.getMessage() for record in caplog.records] == [
        "paused for 60 s: 421 4.7.0 too fast",
        "connecting again in 2 s: the connection was lost",
    ]


def test_nobody_listens_without_a_handler(monkeypatch):
    """Then nothing is formatted, and Python's handler of last resort prints nothing."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert program_log() is None
    monkeypatch.delitem(sys.modules, "logging")
    assert program_log() is None
