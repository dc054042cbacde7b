"""Several rows, one message: what templates see, which rows are together, what is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from faultd import FaultServer, say
from mailmerge import Account, Campaign, CampaignFileError, SendRequest, Status
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Columns, Recipient
from mailmerge.plan.groups import new_rows, rows_in, signature
from mailmerge.preview.preview_page import PageRow, list_entry
from mailmerge.render import MessageTemplates, Renderer, TemplateSource
from mailmerge.render.where import group_key
from mailmerge.suggest import Invocation
from servers.mail import Received

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge import Plan
    from mailmerge.model import Message
    from mailmerge.sandbox import ReceivedMessage
    from servers.kept import KeepingSandbox

INVOICES: list[dict[str, Any]] = [
    {"email": "ana@example.org", "name": "Ana", "number": "101", "amount": 10.5},
    {"email": "bo@example.org", "name": "Bo", "number": "102", "amount": 20},
    {"email": "Ana@Example.org", "name": "Ana", "number": "103", "amount": 5.25},
]
TEXT = "{% for r in rows %}{{ r.number }} {% endfor %}"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with the user's folders beside it."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("MAILMERGE_STATE_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("MAILMERGE_CONFIG", str(tmp_path / "config.toml"))


def campaign(rows: list[dict[str, Any]], place: Path, **more: Any) -> Campaign:
    """Make a campaign that groups *rows* by the address."""
    given_options: dict[str, Any] = {
        "subject": "Hello",
        "text": TEXT,
        "sender": "me@example.org",
        "group_by": "email",
        "state": place / "state",
        **more,
    }
    return Campaign.from_rows(rows, **given_options)


def text_of(message: Message | ReceivedMessage) -> str:
    """Return the text of a message on one line."""
    body = Received("", (), message.content).parse().get_body(("plain",))
    assert body is not None
    return " ".join(body.get_content().split())


def told(plan: Plan) -> list[tuple[str, str]]:
    """Return the code and the message of every problem."""
    return [(group.first.code, group.first.message) for group in plan.problems]


# --- what templates see


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{ name }} {{ email }}", "Ana ana@example.org"),
        ("{{ rows|length }} {{ rows|sum(attribute='amount') }}", "2 15.75"),
        ("{{ rows|sum(attribute='amount')|money('EUR') }}", "€15.75"),
        ("{{ rows|map(attribute='number')|join(', ') }}", "101, 103"),
        ("{% for r in rows|sort(attribute='amount') %}{{ r.number }} {% endfor %}", "103 101"),
        ("{{ rows[1].number }} {{ rows[0]['Unit price'] }} {{ rows[0].unit_price }}", "103 7 7"),
        ("{% for r in rows %}{{ r.items }}{{ r.count }} {% endfor %}", "pen1 ink2"),
        ("{{ number|default('several') }}", "several"),
        ("{{ (rows|max(attribute='amount')).number }}", "101"),
        ("{{ row['name'] }} {{ rows|selectattr('amount', '>', 6)|list|length }}", "Ana 1"),
    ],
)
def test_templates_see_all_rows(template: str, shown: str, tmp_path: Path) -> None:
    """Each row's fields by name or heading; a plain name is what all rows agree on."""
    extra = [{"Unit price": 7, "items": "pen", "count": 1}, {}, {"Unit price": 7, "items": "ink", "count": 2}]
    rows = [invoice | more for invoice, more in zip(INVOICES, extra, strict=True) if more]

    [message] = campaign(rows, tmp_path, text=template).plan().messages()

    assert text_of(message) == shown


@pytest.mark.parametrize(
    ("option", "code", "words"),
    [
        ({"text": "{{ number }}"}, "D182", '`number` differs within the rows of one message: "101" in row 2'),
        ({"subject": "{{ number }}"}, "D182", '"103" in row 4'),
        ({"text": "{{ row['number'] }}"}, "D182", "`number` differs"),
        ({"text": "x{% if number %}y{% endif %}"}, "D182", "`number` differs"),
        ({"text": "{{ number|upper }}"}, "D182", "`number` differs"),
        ({"text": "{{ rows|sum(attribute='note') }}"}, "D117", "`note` is text, not a number"),
        ({"text": "{{ rows[0].nummber }}"}, "T102", "it has no `nummber`"),
        ({"cc": "{{ number }}@example.org"}, "D182", "`number` differs"),
        ({"group_by": "name"}, "", ""),
        ({"group_by": "'all'"}, "D181", 'different addresses: "ana@example.org" in row 2, "bo@example.org"'),
    ],
)
def test_what_differs_is_never_the_first_rows(
    option: dict[str, Any], code: str, words: str, tmp_path: Path
) -> None:
    """A field that differs is an error that names it and the rows, and makes the message invalid."""
    rows = [invoice | {"note": f"see {invoice['number']}"} for invoice in INVOICES]

    plan = campaign(rows, tmp_path, **option).plan()

    found = [message for found_code, message in told(plan) if found_code == code]
    assert bool(found) is bool(code)
    assert not code or words in found[0]
    assert bool(plan.statuses[Status.INVALID]) is bool(code)


def test_rows_without_a_group_are_told_of(tmp_path: Path) -> None:
    """Templates that ask for rows where each row has its own message are told what makes them."""
    with pytest.raises(Exception, match="unknown name `rows`") as caught:
        campaign(INVOICES, tmp_path, group_by=None).plan()

    assert 'group_by = "email"' in (getattr(caught.value, "hint", "") or "")


@pytest.mark.parametrize(
    ("template", "read"),
    [
        ("{% for r in rows %}{{ r.number }}{% endfor %}", {"number"}),
        ("{{ rows|sum(attribute='amount') }} {{ rows[0]['Unit price'] }}", {"amount", "Unit price"}),
        ("{{ rows|sort(attribute='amount,name')|length }}", {"amount", "name"}),
        ("{% for r in rows %}{% for x in ['amount'] %}{{ r[x] }}{% endfor %}{% endfor %}", {"row"}),
        ("{% for r in rows %}{{ r.items() }}{% endfor %}", {"row"}),
        ("{% macro m(r) %}{{ r.amount }}{% endmacro %}{% for r in rows %}{{ m(r) }}{% endfor %}", {"amount"}),
        ("{% import 'lines.txt' as l %}{% for r in rows %}{{ l.line(r) }}{% endfor %}", {"number"}),
        ("{{ name }}", {"name"}),
    ],
)
def test_what_is_read_of_rows_is_known(template: str, read: set[str], tmp_path: Path) -> None:
    """A cell that no template reads makes no row invalid, so which fields are read is seen beforehand."""
    (tmp_path / "lines.txt").write_text("{% macro line(r) %}{{ r.number }}{% endmacro %}")
    body = TemplateSource("body", source=template)
    templates = MessageTemplates(
        base=tmp_path, from_="me@x.org", to=("{{ email }}",), subject="s", text=body, group_by="email"
    )
    headings = ("email", "name", "number", "amount", "Unit price")

    renderer = Renderer(templates, Columns(headings, ("email", "name", "number", "amount", "unit_price")))

    assert renderer.used_names & {*headings, "row"} == read | {"email"}


@pytest.mark.parametrize(
    ("group_by", "code"),
    [("emial", "C431"), ("email +", "C433"), ("row", "C434"), ("email.foo()", "C431"), ("rows", "C431")],
)
def test_an_expression_that_is_wrong_stops(group_by: str, code: str, tmp_path: Path) -> None:
    """It would put the wrong rows together."""
    with pytest.raises(CampaignFileError) as caught:
        campaign(INVOICES, tmp_path, group_by=group_by).plan()

    assert caught.value.code == code


@pytest.mark.parametrize(
    "group_by",
    ["email, name", "Email; Name", "[email, name]", "(email, name)", "email and name", "'email', 'name'"],
)
def test_several_columns_are_told_how_they_are_joined(group_by: str, tmp_path: Path) -> None:
    """A list of columns is not a value; what makes one value of them is."""
    with pytest.raises(CampaignFileError) as caught:
        campaign(INVOICES, tmp_path, group_by=group_by).plan()

    assert caught.value.hint == "for several columns write email ~ ' ' ~ name"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (" Ana@Example.ORG ", "ana@example.org"),
        ("Ana <ana@example.org>", "ana@example.org"),
        ("Ana@example.org,bo@example.org", "ana@example.org, bo@example.org"),
        ("ana at example", "ana at example"),
        ("C-17 ", "C-17"),
        ("c-17", "c-17"),
        ("a@", "a@"),
    ],
)
def test_a_groups_key_is_an_address_or_a_text(text: str, key: str) -> None:
    """Addresses match however they are written; other texts as they are, without surrounding spaces."""
    assert group_key(text) == key


# --- which rows are together

_PEOPLE = st.integers(0, 5)
_CELLS = st.sampled_from(["", "x", "#N/A", "y"])


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    print_blob=True,
)
@given(rows=st.lists(st.tuples(_PEOPLE, _CELLS, st.booleans()), min_size=1, max_size=14), where=st.booleans())
def test_every_row_is_in_exactly_one_message(
    rows: list[tuple[int, str, bool]], where: bool, tmp_path: Path
) -> None:
    """Whatever the list: a row that is meant is in the message of its person, or that person gets none."""
    listed = [
        {
            "email": f"{'P' if upper else 'p'}{person}@example.org" if person else "",
            "kind": cell,
            "n": f"n{n}",
        }
        for n, (person, cell, upper) in enumerate(rows)
    ]
    made = campaign(
        listed,
        tmp_path,
        text="{% for r in rows %}{{ r.n }} {% endfor %}{{ kind|default('') }}",
        where="kind != 'y'" if where else None,
        options={"data.types": {"kind": "text"}},
    )

    plan = made.plan()
    got = {str(one.envelope.rcpt_to[0]).lower(): text_of(one).split() for one in plan.messages()}

    wanted: dict[str, list[str]] = {}
    for row in listed:
        if row["email"] and not (where and row["kind"] == "y"):
            wanted.setdefault(row["email"].lower(), []).append(row["n"])
    found = {person: [word for word in words if word.startswith("n")] for person, words in got.items()}
    invalid = plan.statuses[Status.INVALID]
    assert found.items() <= wanted.items()
    assert len(found) + invalid == len(wanted)
    assert plan.rows == len(listed)


def test_an_invalid_row_makes_its_message_invalid(tmp_path: Path) -> None:
    """A statement never goes out without a row that it should have: every row of it says why."""
    rows = [
        invoice | {"due": due}
        for invoice, due in zip(INVOICES, ("2026-01-01", "2026-01-02", "soon"), strict=True)
    ]
    made = campaign(rows, tmp_path, options={"data.types": {"due": "date"}}, text=TEXT + "{{ rows[0].due }}")

    plan = made.plan()

    assert [text_of(message) for message in plan.messages()] == ["102 2026-01-02"]
    assert plan.statuses.by_status == {Status.INVALID: 1, Status.PENDING: 1}
    assert (plan.rows, plan.sharing) == (3, 1)
    assert [group.rows for group in plan.problems if group.first.code == "D130"] == [[4]]


def test_a_row_whose_group_is_not_known_is_not_sent(tmp_path: Path) -> None:
    """It may belong to any message; one without an address is nobody's, as in every list."""
    rows = [*INVOICES, {"email": "cy@example.org", "number": "104"}, {"name": "Di", "number": "105"}]

    plan = campaign(rows, tmp_path, group_by="name").plan()

    assert [code for code, _ in told(plan)] == ["D180"]
    assert plan.statuses.by_status == {Status.PENDING: 2, Status.INVALID: 1, Status.SKIPPED: 1}


def test_duplicates_are_messages_not_rows(tmp_path: Path) -> None:
    """Two groups of one address are both sent, unless the campaign says that nobody gets two messages."""
    rows = [invoice | {"email": "all@example.org"} for invoice in INVOICES]

    both = campaign(rows, tmp_path, group_by="name").plan()
    first = campaign(rows, tmp_path, group_by="name", duplicates="first").plan()

    assert both.statuses.by_status == {Status.PENDING: 2}
    assert first.statuses.by_status == {Status.PENDING: 1, Status.DUPLICATE: 1}


def test_opt_outs_count_for_the_whole_message(tmp_path: Path) -> None:
    """Whoever is never to be written to gets none of their rows."""
    (tmp_path / "out.txt").write_text("ana@example.org\n")

    plan = campaign(INVOICES, tmp_path, suppress=[tmp_path / "out.txt"]).plan()

    assert plan.counts.by_status == {Status.PENDING: 1, Status.SUPPRESSED: 1}


# --- files of all rows


def test_the_same_file_is_attached_once(tmp_path: Path) -> None:
    """Each rule is asked for each row; what several rows name is one file; a missing one names its row."""
    for name in ("101.pdf", "103.pdf", "102.pdf", "terms-ana.pdf", "terms-bo.pdf"):
        Path(name).write_text(name)
    made = campaign(INVOICES, tmp_path, attach=["{{ number }}.pdf", "terms-{{ name|lower }}.pdf"])

    first, _ = made.plan().messages()
    Path("103.pdf").unlink()
    broken = made.plan()

    names = [part.get_filename() for part in Received("", (), first.content).parse().iter_attachments()]
    assert names == ["101.pdf", "103.pdf", "terms-ana.pdf"]
    assert [group.rows for group in broken.problems if group.first.code.startswith("A3")] == [[4]]


def test_one_file_by_two_paths_is_attached_once(tmp_path: Path) -> None:
    """What counts is the file, not how a cell writes it."""
    Path("terms.pdf").write_text("terms")
    Path("bo.pdf").write_text("bo")
    paths = ("terms.pdf", "bo.pdf", "./terms.pdf")
    rows = [invoice | {"file": path} for invoice, path in zip(INVOICES, paths, strict=True)]

    first, _ = campaign(rows, tmp_path, attach=["{{ file }}"]).plan().messages()

    assert len(list(Received("", (), first.content).parse().iter_attachments())) == 1


# --- after sending


def test_a_group_that_grew_is_told_and_not_sent_again(
    tmp_path: Path, account: Account, sandbox: KeepingSandbox
) -> None:
    """The new row is named, whatever the numbers are now; sorting the list again is not a change."""
    campaign(INVOICES, tmp_path, account=account).send()
    sorted_anew = campaign(INVOICES[::-1], tmp_path, account=account).plan()
    new = {"email": "ana@example.org", "name": "Ana", "number": "104", "amount": 1}

    grown = campaign([new, *INVOICES], tmp_path, account=account)
    report = grown.send()

    assert told(sorted_anew) == []
    assert told(grown.plan()) == [
        ("D272", "row 2 is in no message: that of rows 2, 3, 5 (ana@example.org) was accepted before")
    ]
    assert report is not None
    assert (report.sent_now, len(sandbox.messages)) == (0, 2)


@pytest.mark.parametrize(
    ("amount", "reason", "hint", "mended"),
    [
        ("", "is empty", '|selectattr("amount")|sum(attribute="amount")', {"text": "selectattr"}),
        (
            "7.5",
            "is text",
            'types = { amount = "decimal" } in [data]',
            {"options": {"data.types": {"amount": "decimal"}}},
        ),
    ],
)
def test_what_cannot_be_added_up_says_how_it_can(
    amount: str, reason: str, hint: str, mended: dict[str, Any], tmp_path: Path
) -> None:
    """The hint fits a sum over rows, and does what it says when it is followed."""
    rows = [invoice | ({"amount": amount} if amount else {}) for invoice in INVOICES]
    rows.append(INVOICES[0] | {"number": "104", "amount": amount})
    text = "{{ rows|sum(attribute='amount') }}"

    told_of = next(iter(campaign(rows, tmp_path, text=text).plan().problems)).first
    if "text" in mended:
        mended = {"text": text.replace("|sum(attribute='amount')", hint)}
    plan = campaign(rows, tmp_path, **({"text": text} | mended)).plan()

    assert told_of.code == "D117"
    assert told_of.message == f"`amount` {reason}, not a number to add up"
    assert hint in (told_of.hint or "")
    assert told(plan) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda rows: [rows[0], rows[1], {**rows[2], "number": "109"}],
            (
                "the current content of row 4 is in no message: "
                "it was edited or added after its message was sent"
            ),
        ),
        (
            lambda rows: [rows[0], {**rows[1], "number": "109"}, rows[2]],
            (
                "the current content of row 3 is in no message: "
                "it was edited or added after its message was sent"
            ),
        ),
        (
            lambda rows: [{**row, "number": f"2{row['number']}"} for row in rows],
            (
                "the current content of rows 2, 3, 4 is in no message: "
                "they were edited or added after their messages were sent"
            ),
        ),
        (
            lambda rows: rows[:2],
            "that of row 2 (ana@example.org) was sent with rows that are no longer in it",
        ),
        (
            lambda rows: [rows[0], rows[1], {**rows[2], "email": "ana@example"}],
            "that of row 2 (ana@example.org) was sent with rows that are no longer in it",
        ),
        (lambda rows: rows[::-1], None),
    ],
    ids=[
        "in the place of a paid one",
        "of one row each",
        "all of them",
        "one is gone",
        "one has no address any more",
        "sorted",
    ],
)
def test_a_row_in_the_place_of_another_is_told(
    tmp_path: Path,
    account: Account,
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    words: str | None,
) -> None:
    """A new invoice where a paid one was is in no message: that is told once; so is a row that is gone."""
    campaign(INVOICES, tmp_path, account=account).send()

    plan = campaign(change(INVOICES), tmp_path, account=account).plan()

    code = "D274" if words and "no longer in it" in words else "D273"
    found = [one for one in told(plan) if one[0] != "D110"]
    assert found == ([(code, words)] if words else [])


def test_an_edited_row_is_told_of_its_message(tmp_path: Path, account: Account) -> None:
    """Reported for an accepted message, whichever of its rows was edited; sorting the list is not an edit."""
    campaign(INVOICES, tmp_path, account=account).send()
    table = tmp_path / "state" / "out" / "results.csv"

    campaign(INVOICES[::-1], tmp_path, account=account).send()
    sorted_anew = table.read_text("utf-8")
    campaign([*INVOICES[:2], INVOICES[2] | {"amount": 6}], tmp_path, account=account).send()
    edited = [line for line in table.read_text("utf-8").splitlines() if "edited in the list" in line]

    assert "edited" not in sorted_anew
    assert [line.partition(",")[0] for line in edited] == ["2", "4"]


def test_a_damaged_plan_makes_the_message_of_all_rows_again(
    tmp_path: Path, account: Account, sandbox: KeepingSandbox
) -> None:
    """What is made once more of a row's cells has those of the others of its message, too."""
    made = campaign(INVOICES, tmp_path, account=account)
    plan = made.plan()
    [messages] = (tmp_path / "state" / "cache").rglob("*.messages")
    data = bytearray(messages.read_bytes())
    data[-40:] = b"\xff" * 40
    messages.write_bytes(bytes(data))

    made.send(plan)

    assert sorted(map(text_of, sandbox.messages)) == ["101 103", "102"]


def test_row_numbers_are_known_without_the_plan(tmp_path: Path, account: Account) -> None:
    """The ledger keeps the rows of each message: any of them names it where the plan is gone."""
    made = campaign(INVOICES, tmp_path, account=account)
    made.send()

    with Ledger.open_read_only(made.definition.workspace.ledger_path, made.definition.name) as ledger:
        assert ledger.keys_in([(4, 4)]) == ["ana@example.org"]
        assert ledger.keys_in([(2, 3)]) == ["ana@example.org", "bo@example.org"]


def test_any_row_gives_a_refused_message_another_chance(tmp_path: Path) -> None:
    """By its number or by the file of failed rows, which names the message once for each of its rows."""
    nobody = say("550 5.1.1 no such user")
    failed = tmp_path / "state" / "out" / "failed.csv"
    with FaultServer({"RCPT": {1: nobody, 3: nobody}}, extensions=()) as server:
        account = Account(host="127.0.0.1", port=server.port, tls="none", auth="none", any_from=True)
        made = campaign(INVOICES, tmp_path, account=account, options={"send.max_rejected": "100%"})
        reports = [made.send()]
        by_row = made.requeue(rows="4")
        reports.append(made.send(request=SendRequest(rows="2")))
        by_file = made.requeue(failed=failed)
        reports.append(made.send(request=SendRequest(rows="4")))

    assert (by_row, by_file) == (1, 1)
    assert [(one.counts[Status.REJECTED], one.failed) for one in reports if one] == [(1, 2), (1, 2), (0, 0)]
    assert len(server.accepted) == 2


def test_the_same_rows_under_another_key_stop_the_run(tmp_path: Path, account: Account) -> None:
    """Who has this message already does not get it again because it is grouped by something else now."""
    campaign(INVOICES, tmp_path, account=account).send()
    again = campaign(INVOICES, tmp_path, account=account, group_by="name")

    with pytest.raises(CampaignFileError) as caught:
        again.send(request=SendRequest(accept_changes=True))

    assert caught.value.code == "C471"


def test_a_signature_tells_rows_apart() -> None:
    """Rows are known by their cells, not by their numbers; two with the same cells are two."""
    columns = Columns(("a",), ("a",))
    alike = [Recipient(row, columns, (text,)) for row, text in ((12, "x"), (13, "y"), (17, "x"))]
    three = replace(alike[0], others=((1, alike[1]), (2, alike[2])))
    two = replace(alike[0], others=((1, alike[1]),))

    assert rows_in(signature(three)) == (12, 13, 17)
    assert new_rows(signature(three), signature(two)) == (17,)
    assert new_rows(signature(two), signature(three)) == ()
    assert new_rows(signature(three), f"12:{alike[0].digest()}") == (13, 17)
    assert (signature(alike[0]), rows_in("x:1 9y:2 5:3")) == ("", (5,))


def test_the_preview_page_shows_what_all_rows_say() -> None:
    """What differs is there for each row, to be read and to be searched."""
    from mailmerge.model import Result

    columns = Columns(("n", "name"), ("n", "name"))
    first, other = (Recipient(row, columns, (f"n{row}", "Ana")) for row in (2, 5))
    row = PageRow(Result(2, "k", "a@x.org", Status.PENDING), replace(first, others=((3, other),)))

    assert list_entry(row)[-1] == ["n2 · n5", "Ana"]


@pytest.mark.parametrize(
    ("options", "path", "line", "column", "code"),
    [
        ({}, "campaign.toml", 4, 13, "C431"),
        ({"data.group_by": "email ~ emial"}, "--group-by", 1, 9, "C431"),
        ({"data.group_by": "email +"}, "--group-by", 1, None, "C433"),
        ({"data.group_by": "email", "data.where": "not nmae"}, "--where", 1, 5, "C431"),
    ],
)
def test_an_expression_that_is_wrong_is_shown_where_it_was_written(
    options: dict[str, Any], path: str, line: int, column: int | None, code: str, tmp_path: Path
) -> None:
    """In the campaign file with its line, or as the option that was given instead."""
    (tmp_path / "people.csv").write_text("email,name\nana@example.com,Ana\n")
    (tmp_path / "body.txt").write_text("Hello.\n")
    (tmp_path / "campaign.toml").write_text(
        'name = "spring"\n[data]\nsource = "people.csv"\ngroup_by = "emial"\n'
        '[message]\nfrom = "me@example.org"\nsubject = "Hi"\ntext = "body.txt"\n'
    )

    with pytest.raises(CampaignFileError) as caught:
        Campaign.load(tmp_path, options, invocation=Invocation("check")).plan()

    place = caught.value.place
    assert place is not None
    assert (Path(place.path or "").name, place.line, place.column) == (path, line, column)
    assert caught.value.code == code


def test_rows_that_were_corrected_in_a_file_of_failed_rows_are_told_of_as_such(tmp_path: Path) -> None:
    """The list still has what was wrong: it was not edited after the message went out."""
    (tmp_path / "people.csv").write_text(
        "email,amount\nana@example.com,5\nbo@example.net,6\nana@example.com,7\n"
    )
    (tmp_path / "body.txt").write_text("{% for r in rows %}{{ r.amount }} {% endfor %}\n")
    (tmp_path / "campaign.toml").write_text(
        'name = "corrected"\n[data]\nsource = "people.csv"\ngroup_by = "email"\n[message]\n'
        'from = "me@example.org"\nsubject = "Hi"\ntext = "body.txt"\n[send]\nmax_rejected = "100%"\n'
    )
    with FaultServer({"RCPT": {1: say("550 5.1.1 no")}}, extensions=()) as server:
        account = Account(host="127.0.0.1", port=server.port, tls="none", auth="none", any_from=True)
        Campaign.load(tmp_path, account=account).send()
        failed = (tmp_path / "out" / "failed.csv").read_text("utf-8-sig")
        (tmp_path / "fixed.csv").write_text(failed.replace("example.com,5", "example.com,50"))
        fixed = Campaign.load(tmp_path, {"data.source": str(tmp_path / "fixed.csv")}, account=account)
        fixed.requeue()
        fixed.send()

        assert told(fixed.plan()) == []
        assert told(Campaign.load(tmp_path, account=account).plan()) == [
            ("D273", "what row 2 says now is not what was sent when the message was sent once more")
        ]
