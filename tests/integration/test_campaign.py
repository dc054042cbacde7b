"""The composition root without a server: plan, pre-flight, exit codes, scaffolding."""

from __future__ import annotations

import contextlib
import csv
import re
import stat
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import default
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import lxml.html
import pytest

from mailmerge import Campaign, CampaignFileError, ListError, RowError, SendRequest, TemplateError
from mailmerge.campaign.plan import Plan
from mailmerge.campaign.planning import Planning
from mailmerge.campaign.preflight import examine
from mailmerge.campaign.results import exit_code, keys_in_failed
from mailmerge.campaign.scaffold import make_campaign, sample_list
from mailmerge.check.diagnostics import DiagnosticCollector
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Counts, Rate, Status
from mailmerge.options import StockTemplate
from mailmerge.recipients import Understanding, open_list
from mailmerge.suggest import Invocation

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns import CampaignFactory


def examined(campaign: Campaign, ledger: Ledger) -> Plan:
    """Plan the campaign, or find the plan that was made before."""
    definition = campaign.definition
    recipients = definition.open_list()
    planning = Planning(definition, recipients)
    with contextlib.ExitStack() as stack:
        return examine(definition, ledger, planning.find(stack) or planning.make(stack))[0]


def plan(*, to_send: int, rates: tuple[Rate, ...]) -> Plan:
    """Make a plan that only knows how much and how fast."""
    read = Understanding("CSV", rows=to_send)
    return Plan("c", "l.csv", read, DiagnosticCollector(), Counts(), to_send=to_send, rates=rates)


@pytest.mark.parametrize(
    ("to_send", "rates", "seconds"),
    [
        (1201, (Rate(60, 60),), 1200),
        (1, (Rate(1, 60),), 0),
        (100, (), 0),
        (5000, (Rate(60, 60), Rate(2000, 86400)), 2 * 86400),
        (2000, (Rate(60, 60), Rate(2000, 86400)), 1999),
    ],
)
def test_the_plan_says_how_long_it_takes(to_send: int, rates: tuple[Rate, ...], seconds: float) -> None:
    """The shortest rate is spaced evenly, longer ones apply in blocks."""
    assert plan(to_send=to_send, rates=rates).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("counts", "end", "complete", "code"),
    [
        ({Status.ACCEPTED: 3}, 0, True, 0),
        ({Status.ACCEPTED: 3, Status.DUPLICATE: 1, Status.SKIPPED: 2}, 0, True, 0),
        ({Status.ACCEPTED: 3, Status.REJECTED: 1}, 0, True, 3),
        ({Status.INVALID: 1}, 0, True, 3),
        ({Status.EXPIRED: 1}, 0, True, 3),
        ({Status.DEFERRED: 1, Status.REJECTED: 1}, 0, True, 5),
        ({Status.IN_DOUBT: 1, Status.DEFERRED: 1, Status.REJECTED: 1}, 0, True, 4),
        ({Status.IN_DOUBT: 1}, 5, True, 4),
        ({Status.IN_DOUBT: 1}, 6, True, 6),
        ({Status.IN_DOUBT: 1}, 8, True, 8),
        ({Status.IN_DOUBT: 1}, 130, True, 130),
        ({Status.PENDING: 9, Status.ACCEPTED: 1}, 0, False, 0),
        ({Status.PENDING: 9, Status.ACCEPTED: 1}, 0, True, 5),
        ({Status.PENDING: 9}, 2, True, 2),
    ],
)
def test_the_exit_code_follows_the_precedence(
    counts: dict[Status, int], end: int, complete: bool, code: int
) -> None:
    """Signal, ledger, account, doubt, stopped early, failed rows: the first that applies."""
    assert exit_code(Counts(counts), end, complete=complete) == code


def test_check_counts_rows_and_writes_nothing(campaign_factory: CampaignFactory) -> None:
    """Looking leaves no trace beside the campaign."""
    rows = ["a@x.org,Ann", "", "b@x.org,Bo", "a@X.org,Ann again", "bad,Eve"]
    campaign = campaign_factory(rows=rows)
    found = campaign.check()
    assert (found.rows, found.ready, found.understanding.blank) == (4, 2, 1)
    assert found.statuses[Status.DUPLICATE] == 1
    assert found.statuses[Status.INVALID] == 1
    assert sorted(path.name for path in campaign_factory.folder.iterdir()) == [
        "body.txt",
        "campaign.toml",
        "people.csv",
    ]


def test_messages_leave_out_rows_that_would_not_be_sent(campaign_factory: CampaignFactory) -> None:
    """Rows that are invalid, suppressed, not selected, or repeat an earlier address become no message."""
    rows = ["a@x.org,Ann", "bad,Eve", "b@x.org,Bo", "s@x.org,Sue", "B@x.org,Bo again", "c@x.org,Cy"]
    campaign = campaign_factory(
        {"stop.txt": "s@x.org\n"}, rows=rows, data='where = "name != \'Ann\'"\nsuppress = ["stop.txt"]'
    )

    sent = [(message.row, str(message.envelope.rcpt_to[0])) for message in campaign.messages()]

    assert sent == [(4, "b@x.org"), (7, "c@x.org")]
    assert [message.row for message in campaign.messages(limit=1)] == [4]
    assert [message.row for message in campaign.messages(rows="6-7")] == [7]


def test_messages_stop_where_the_campaign_would_not_be_sent(campaign_factory: CampaignFactory) -> None:
    """A template that fails for one row stops everything, as it stops a run; a bad address only if named."""
    failing = {"body.txt": "Dear {% if name %}{{ name }}{% else %}{{ name.nope }}{% endif %},\n"}
    with pytest.raises(TemplateError):
        list(campaign_factory(failing, rows=["a@x.org,Ann", "b@x.org,"]).messages())
    campaign = campaign_factory(rows=["a@x.org,Ann", "bad,Eve"])
    assert [message.row for message in campaign.messages()] == [2]
    with pytest.raises(RowError) as caught:
        list(campaign.messages(rows="3"))
    assert (caught.value.code, caught.value.diagnostics[0].row) == ("D110", 3)


def test_what_is_shown_before_the_first_run_is_what_will_be_sent(campaign_factory: CampaignFactory) -> None:
    """All but Date and Message-ID, which the first run makes; looking makes no ledger for them."""

    def without_made(content: bytes) -> list[bytes]:
        made = (b"Date: ", b"Message-ID: ", b"X-Mailmerge-ID: ")
        return [line for line in content.split(b"\r\n") if not line.startswith(made)]

    campaign = campaign_factory()
    shown = [without_made(m.content) for m in campaign.messages()]
    again = [without_made(m.content) for m in campaign_factory.open().messages()]

    assert shown == again
    assert len({m.message_id for m in campaign.messages()}) == 3
    assert not campaign.workspace.state.exists()


def test_a_misspelt_name_stops_everything_with_its_place(campaign_factory: CampaignFactory) -> None:
    """The template's author learns line, column and the right name."""
    with pytest.raises(TemplateError) as caught:
        campaign_factory({"body.txt": "Dear {{ nmae }},\n"}).check()
    (problem,) = caught.value.diagnostics
    assert problem.place
    assert (problem.code, problem.place.line, problem.place.column) == ("T102", 1, 9)
    assert problem.hint == "did you mean `name`?"


def test_a_dry_run_needs_an_account_but_no_server(campaign_factory: CampaignFactory) -> None:
    """It shows the plan that a real run would, and writes nothing."""
    campaign_factory()
    campaign = campaign_factory.open(SMTP_SERVER="smtp.invalid", SMTP_FROM="me@example.org")
    plans: list[Plan] = []

    def keep(found: Plan) -> bool:
        plans.append(found)
        return True

    report = campaign.send(request=SendRequest(dry_run=True), confirm=keep)

    assert report is None
    assert (plans[0].to_send, plans[0].first, plans[0].last) == (3, "ana@example.com", "cy@example.org")
    assert not (campaign_factory.folder / ".mailmerge").exists()


def test_from_that_the_account_may_not_use_stops_the_run(campaign_factory: CampaignFactory) -> None:
    """A From that the server would refuse for every row is found before it is asked."""
    campaign_factory()
    campaign = campaign_factory.open(SMTP_SERVER="smtp.invalid", SMTP_FROM="other@example.org", SMTP_AUTH="x")

    with pytest.raises(CampaignFileError) as caught:
        campaign.send(request=SendRequest(dry_run=True))

    assert caught.value.code == "C461"


def test_the_same_files_are_not_planned_twice(campaign_factory: CampaignFactory) -> None:
    """The plan is kept, and another one is made as soon as a file differs."""
    campaign = campaign_factory()

    with Ledger.scratch(None, "spring") as ledger:
        first = examined(campaign, ledger)
        second = examined(campaign, ledger)
        third = examined(campaign_factory(rows=["a@x.org,Ann", "b@x.org,Bo"]), ledger)

    assert (first.planned, third.planned) == (None, None)
    assert second.planned is not None
    assert (second.rows, second.ready, second.sender) == (3, 3, "Me <me@example.org>")
    assert third.rows == 2


def test_data_frames_are_lists(tmp_path: Path) -> None:
    """A pandas frame and templates as texts make a campaign."""
    import pandas as pd

    frame = pd.DataFrame({"email": ["a@x.org", "b@x.org"], "Amount due": [1.5, None]})
    campaign = Campaign.from_dataframe(
        frame,
        name="alerts",
        subject="Hello",
        text="{{ amount_due or 'nothing' }} is due",
        folder=tmp_path,
        state=tmp_path / "state",
        options={"message.from": "me@x.org"},
    )
    bodies = [BytesParser(policy=default).parsebytes(m.content).get_content() for m in campaign.messages()]
    assert [body.strip() for body in bodies] == ["1.5 is due", "nothing is due"]


LIST = {"data.source": "lists/people.csv"}
MESSAGE = {**LIST, "message.subject": "Hi"}


@pytest.mark.parametrize(
    ("path", "options", "expected"),
    [
        (None, {}, ("here", ".")),
        (None, LIST, ("here", ".")),
        (None, {**MESSAGE, "message.text": None}, ("here", ".")),
        (None, {**MESSAGE, "message.html": "body.html"}, ("people", "lists")),
        ("there", {**MESSAGE, "message.text": "body.txt"}, ("there", "there")),
        ("there/june.toml", {}, ("june", "there")),
    ],
)
def test_a_campaign_is_a_folder_unless_options_are_one(
    folders: dict[str, str], path: str | None, options: dict[str, object], expected: tuple[str, str]
) -> None:
    """A folder counts where it is named; without one, options that are a whole campaign; else this folder."""
    campaign = Campaign.load(path, options, environ=folders)
    assert (campaign.name, str(campaign.workspace.folder)) == expected


@pytest.mark.parametrize(
    ("path", "options", "expected"),
    [
        (None, LIST, ("people", "lists")),
        (None, {"data.source": None}, ("here", ".")),
        ("there", LIST, ("there", "there")),
    ],
)
def test_a_list_is_enough_to_find_a_ledger(
    folders: dict[str, str], path: str | None, options: dict[str, object], expected: tuple[str, str]
) -> None:
    """Where only the ledger matters, a list without a folder represents its campaign."""
    campaign = Campaign.load(path, options, environ=folders, ledger_only=True)
    assert (campaign.name, str(campaign.workspace.folder)) == expected


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Work in a folder with a campaign, and another one in it that has two files; return the environment."""
    text = '[data]\nsource = "list.csv"\n[message]\nsubject = "x"\ntext = "body.txt"\n'
    for name in ("here/campaign.toml", "here/there/campaign.toml", "here/there/june.toml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "here")
    return {"MAILMERGE_STATE_DIR": str(tmp_path / "state")}


@pytest.mark.parametrize("kind", get_args(StockTemplate))
def test_every_stock_template_makes_a_campaign_that_checks(kind: StockTemplate, tmp_path: Path) -> None:
    """What init makes is free of problems from the first moment; an invoice is not sent without its file."""
    made = make_campaign(tmp_path / "new", open_list(sample_list()), kind=kind)
    campaign = Campaign.load(tmp_path / "new", environ={"MAILMERGE_STATE_DIR": str(tmp_path / "state")})
    found = campaign.check()
    assert (made.rows, made.address_column) == (3, "email")
    assert found.problems.campaign_errors == []
    assert found.ready == (0 if kind == "invoice" else 3)
    if kind == "invoice":
        for recipient in open_list(sample_list()):
            (tmp_path / "new/attachments").mkdir(exist_ok=True)
            (tmp_path / f"new/attachments/{recipient.fields[made.file_column]}.pdf").write_text("an invoice")
        found = campaign.check()
    assert found.ready == 3
    assert "A215" not in {group.first.code for group in found.problems}


@pytest.mark.parametrize(
    ("head", "chinese"),
    [
        ("姓名,邮箱", True),
        ("学号,姓名,email", True),
        ("客户,email", True),
        ("名字,email,电话", True),
        ("氏名,email,住所", False),
        ("名前,メールアドレス,姓名", False),
        ("姓名,電子郵件", False),
        ("이름,姓名,email", False),
        ("name,email", False),
    ],
)
@pytest.mark.parametrize("kind", ["letter", "plain"])
def test_the_letter_for_a_chinese_list_is_chinese(
    kind: StockTemplate, head: str, chinese: bool, tmp_path: Path
) -> None:
    """By its headings; check finds that nobody has written it yet, and each row has its message."""
    cells = [
        "王小明" if not re.search("mail|邮|郵|メール", one) else "wang@example.org" for one in head.split(",")
    ]
    (tmp_path / "list.csv").write_text(f"{head}\n{','.join(cells)}\n", "utf-8")
    make_campaign(tmp_path / "new", open_list(tmp_path / "list.csv"), kind=kind)
    campaign = Campaign.load(tmp_path / "new", environ={"MAILMERGE_STATE_DIR": str(tmp_path / "state")})

    codes = {group.first.code for group in campaign.check().problems}
    (message,) = campaign.messages()
    parsed = BytesParser(policy=default).parsebytes(message.content)
    text = parsed.get_body(("plain",))

    assert text is not None
    assert (codes, parsed["Subject"]) == ({"M210"}, "给您的一封信" if chinese else "A message for you")
    assert ("请在这里写信的正文" in text.get_content()) is chinese
    assert ("Write your message here" in text.get_content()) is not chinese
    if chinese:
        assert re.match("(王小明|您)", text.get_content())


HOSTILE = [
    *(
        'First "Name"',
        "{{ 7*7 }}",
        "a %} b",
        "{% x %}",
        "{# c",
        "<b>",
        "q\\",
        "it's",
        "Größe",
        "2nd",
    ),
    *("class", "In", "not", "true", "loop", "self"),
]


@pytest.mark.parametrize("kind", ["plain", "letter", "invoice"])
def test_d47_headings_are_never_template_code(kind: StockTemplate, tmp_path: Path) -> None:
    """Whatever the columns are called, the first messages show headings and cells as they are in the list."""
    with (tmp_path / "l.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["email", *HOSTILE, "no }}"], ["a@x.org", *(f"cell{n}" for n in range(len(HOSTILE))), "N7"]]
        )
    (tmp_path / "l.csv").chmod(0o640)
    made = make_campaign(tmp_path / "new", open_list(tmp_path / "l.csv"), kind=kind)
    if kind == "invoice":
        assert made.file_column == 'row["no }}"]'
        (tmp_path / "new/attachments").mkdir()
        (tmp_path / "new/attachments/N7.pdf").write_text("an invoice")

    campaign = Campaign.load(tmp_path / "new", environ={"MAILMERGE_STATE_DIR": str(tmp_path / "state")})
    (message,) = campaign.messages()

    parsed = BytesParser(policy=default).parsebytes(message.content)
    text, html = parsed.get_body(("plain",)), parsed.get_body(("html",))
    assert text is not None
    for number, heading in enumerate(HOSTILE):
        assert f"{'-' if kind == 'letter' else ' '} {heading}: cell{number}\r\n" in text.get_content()
    if kind == "letter":
        assert html is not None
        points: Any = lxml.html.fromstring(html.get_content()).xpath("//li")
        assert [point.text_content() for point in points] == [
            *(f"{heading}: cell{number}" for number, heading in enumerate(HOSTILE)),
            "no }}: N7",
        ]
    elif html is not None:
        rows: Any = lxml.html.fromstring(html.get_content()).xpath("//tr[th]")
        shown = {row[0].text_content(): row[1].text_content() for row in rows}
        assert shown == {heading: f"cell{number}" for number, heading in enumerate(HOSTILE)} | {"no }}": "N7"}
    assert stat.S_IMODE((tmp_path / "new/l.csv").stat().st_mode) == 0o640


def test_a_scaffold_never_overwrites_a_campaign(tmp_path: Path) -> None:
    """A second init in the same folder is refused."""
    make_campaign(tmp_path / "new", open_list(sample_list()))
    with pytest.raises(CampaignFileError, match="already contains a campaign"):
        make_campaign(tmp_path / "new", open_list(sample_list()))


def test_a_list_without_addresses_is_no_start(tmp_path: Path) -> None:
    """The columns are named, so that the person sees what was read."""
    (tmp_path / "l.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CampaignFileError, match=r"no column of .* contains e-mail addresses") as caught:
        make_campaign(tmp_path / "new", open_list(tmp_path / "l.csv"))
    assert caught.value.hint == "its columns are: a, b"


def test_a31_suppressed_rows_are_listed_with_the_reason(
    campaign_factory: CampaignFactory,
) -> None:
    """A suppressed Cc suppresses the whole row."""
    campaign = campaign_factory({"no.txt": "bo@example.net\n"}, data='suppress = "no.txt"')

    assert campaign.check().statuses[Status.SUPPRESSED] == 1


def test_the_key_in_failed_csv_says_who_is_meant(tmp_path: Path) -> None:
    """Neither the row number nor a corrected address does; rows that never had a key are passed over."""
    path = tmp_path / "failed.csv"
    head = "\ufeffemail,mailmerge_row,mailmerge_key\n"
    path.write_text(f"{head}new@x.org,3,a@x.org\n?,4,\nb@x.org,17,=b\n", encoding="utf-8")
    assert keys_in_failed(path, lambda _path: ["nobody"]) == ["a@x.org", "=b"]
    path.write_text(f"{head}a@x.org,3,\n", encoding="utf-8")
    with pytest.raises(ListError, match="names no rows"):
        keys_in_failed(path, lambda _path: ["nobody"])


@pytest.mark.parametrize("content", [None, b"mailmerge_key\n\xff\n"])
def test_a_failed_csv_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None) -> None:
    """Missing, or not UTF-8: words, no traceback."""
    path = tmp_path / "failed.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ListError, match="cannot read"):
        keys_in_failed(path, lambda _path: [])


def test_rows_and_a_failed_csv_exclude_each_other(campaign_factory: CampaignFactory, tmp_path: Path) -> None:
    """Which of the two was meant is not guessed."""
    with pytest.raises(ValueError, match="exclude each other"):
        campaign_factory().requeue("5", failed=tmp_path / "failed.csv")


def test_the_ledger_lies_in_a_private_folder(campaign_factory: CampaignFactory) -> None:
    """Nobody else on the machine can read who was written to."""
    workspace = campaign_factory().workspace
    workspace.make_state()
    Ledger.open(workspace.ledger_path, "spring", now=lambda: datetime(2026, 11, 22, tzinfo=UTC)).close()
    assert stat.S_IMODE(workspace.state.stat().st_mode) == 0o700
    assert stat.S_IMODE(workspace.ledger_path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("invocation", "label"), [(Invocation.parsed("check", {}), "--rate"), (None, "send.rate")]
)
def test_a_campaign_knows_who_named_its_options(
    tmp_path: Path, invocation: Invocation | None, label: str
) -> None:
    """Whichever way it is opened: messages name flags to a command line, and keys to a program."""
    (tmp_path / "list.csv").write_text("email\na@x.org\n", "utf-8")
    (tmp_path / "campaign.toml").write_text(
        '[data]\nsource = "list.csv"\n[message]\nfrom = "me@x.org"\nsubject = "Hi"\ntext = "Hi\\n"\n', "utf-8"
    )
    source = {"data.source": str(tmp_path / "list.csv")}
    whole = {**source, "message.subject": "Hi", "message.text": "Hi\n", "message.from": "me@x.org"}
    ways: list[tuple[Path | None, dict[str, str], bool]] = [
        (tmp_path, {}, False),
        (None, whole, False),
        (None, source, True),
    ]
    for path, options, ledger_only in ways:
        load = partial(Campaign.load, path, environ={}, ledger_only=ledger_only, invocation=invocation)
        assert load(options).definition.invocation.typed == (invocation is not None)
        with pytest.raises(CampaignFileError, match=f"`{label}` "):
            load({**options, "send.rate": "often"})


def test_a_campaign_that_does_not_say_whom_to_write_to(campaign_factory: CampaignFactory) -> None:
    """It writes to the addresses of the list, whatever their column is called, and says which that is."""
    rows = ["ana@example.com,Ana,Rome,", "bo@example.net,Bo,Oslo,bo@example.org"]
    plan = campaign_factory(rows=rows, heading="E-mail Address,Name,Address,E-mail 2 Address").plan()
    assert [message.envelope.rcpt_to[0].normalised for message in plan.messages()] == [
        "ana@example.com",
        "bo@example.net",
    ]
    assert "addresses  in the column E-mail Address (there are others in E-mail 2 Address)" in [
        *plan.understanding.lines()
    ]


def test_the_preview_knows_a_sender_that_only_the_account_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So do the other commands that render rows by themselves; without account and sender it is an error."""
    (tmp_path / "config.toml").write_text(
        '[accounts.club]\nhost = "127.0.0.1"\ntls = "none"\nauth = "none"\nfrom = "us@example.org"\n'
    )
    monkeypatch.setenv("MAILMERGE_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("MAILMERGE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MAILMERGE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "people.csv").write_text("email\nana@example.com\n")
    (tmp_path / "body.txt").write_text("Hello.\n")
    toml = 'name = "spring"\n[data]\nsource = "people.csv"\n[message]\nsubject = "Hi"\ntext = "body.txt"\n'
    (tmp_path / "campaign.toml").write_text(f'account = "club"\n{toml}')

    campaign = Campaign.load(tmp_path)
    shown = campaign.preview(tmp_path / "preview.html")
    (tmp_path / "campaign.toml").write_text(toml)

    assert (shown.shown, shown.problems.campaign_errors) == (1, [])
    assert campaign.definition.composer(campaign.definition.open_list()).sender == "us@example.org"
    with pytest.raises(CampaignFileError, match="no sender"):
        Campaign.load(tmp_path).preview(tmp_path / "preview.html")
