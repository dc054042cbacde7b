"""Several rows, one message, through the command line: what arrives, and what is told of it."""

from __future__ import annotations

import csv
import re

import pytest

from campaigns import campaign_toml
from faultd import FaultServer, say
from servers.command import results
from servers.mail import Received

TOML = campaign_toml(
    top='account = "test"',
    data='source = "people.csv"\ngroup_by = "email"',
    message='subject = "{{ rows|length }} invoices for {{ name }}"\nto = "{{ name }} <{{ email }}>"',
    rest='\n[[attach]]\npath = "invoices/{{ number }}.txt"\n[[attach]]\npath = "terms.txt"\n',
)
PEOPLE = """email,name,number,amount,due
ana@example.com,Ana,101,10.50,2026-12-03
bo@example.net,Bo,102,20.00,2026-12-02
Ana@Example.com,Ana,103,5.25,2026-12-01
cy@example.org,Cy,104,7.00,2026-12-05
ana@example.com,Ana,105,100.00,2026-12-04
bo@example.net,Bo,106,1.00,2026-12-09
"""
BODY = """Dear {{ name }},
{% for r in rows|sort(attribute="due") %}
{{ r.number }}: {{ r.amount|money("EUR") }}
{%- endfor %}

Total: {{ rows|sum(attribute="amount")|money("EUR") }}
"""
NOBODY = say("550 5.1.1 no such user")


@pytest.fixture
def statements(mailmerge):
    """A campaign of six invoices to three people, each invoice a file."""
    campaign = mailmerge.campaign(campaign_toml=TOML, people_csv=PEOPLE, body_txt=BODY, terms_txt="terms")
    (campaign / "invoices").mkdir()
    for number in range(101, 107):
        (campaign / "invoices" / f"{number}.txt").write_text(f"invoice {number}\n")
    return campaign


def parsed(messages):
    """Return each message's subject, lines of text and files, by its recipient."""
    found = {}
    for one in messages:
        message = Received("", (), one.content).parse()
        body = message.get_body(("plain",))
        assert body is not None
        text = body.get_content().splitlines()
        names = [part.get_filename() for part in message.iter_attachments()]
        found[str(message["To"])] = message["Subject"], [line for line in text if line], names
    return found


def test_each_person_gets_one_message_with_all_of_their_rows(mailmerge, statements, sandbox):
    """Sorted, with the sum, every row's file and the common one once; results.csv has each row."""
    mailmerge.account(sandbox)

    checked = mailmerge("check", "spring")
    done = mailmerge("send", "spring", "--yes", "--jobs", "2")

    assert checked.out.startswith("3 of 3 messages (6 rows) can be sent."), checked
    assert done.code == 0, done
    assert parsed(sandbox.messages) == {
        "Ana <ana@example.com>": (
            "3 invoices for Ana",
            ["Dear Ana,", "103: €5.25", "101: €10.50", "105: €100.00", "Total: €115.75"],
            ["101.txt", "103.txt", "105.txt", "terms.txt"],
        ),
        "Bo <bo@example.net>": (
            "2 invoices for Bo",
            ["Dear Bo,", "102: €20.00", "106: €1.00", "Total: €21.00"],
            ["102.txt", "106.txt", "terms.txt"],
        ),
        "Cy <cy@example.org>": (
            "1 invoices for Cy",
            ["Dear Cy,", "104: €7.00", "Total: €7.00"],
            ["104.txt", "terms.txt"],
        ),
    }
    assert [(row["row"], row["key"], row["status"]) for row in results(statements)] == [
        ("2", "ana@example.com", "accepted"),
        ("3", "bo@example.net", "accepted"),
        ("4", "ana@example.com", "accepted"),
        ("5", "cy@example.org", "accepted"),
        ("6", "ana@example.com", "accepted"),
        ("7", "bo@example.net", "accepted"),
    ]


def test_a_refused_message_comes_back_with_all_of_its_rows(mailmerge, statements):
    """Each of them is in failed.csv; corrected, they go out as one; one of them alone, or apart, does not."""
    with FaultServer({"RCPT": {1: NOBODY}}, extensions=()) as server:
        mailmerge.account(server)
        done = mailmerge("send", "spring", "--yes", "--set", "send.max_rejected=100%")
        failed = (statements / "out" / "failed.csv").read_text("utf-8-sig").splitlines()
        lines = list(csv.reader(failed))
        assert "1 rejected" in done.out, done
        assert "rows 2, 4, 6" in done.out, done
        assert [line[2] for line in lines] == ["number", "101", "103", "105"]
        report = (statements / "out" / "report.html").read_text("utf-8")
        assert "rows 2, 4, 6" in report

        torn = statements / "torn.csv"
        torn.write_text("\n".join(failed[:-1]) + "\n", "utf-8")
        incomplete = mailmerge("check", "spring", "--list", torn)
        assert "also for row 6 of" in incomplete.out, incomplete
        apart = statements / "apart.csv"
        apart.write_text("\n".join([failed[0], failed[1].replace("ana@", "anna@", 1), *failed[2:]]) + "\n")
        assert "would be in several" in mailmerge("check", "spring", "--list", apart).out

        fixed = statements / "fixed.csv"
        fixed.write_text(re.sub("(?im)^ana@", "anna@", "\n".join(failed)) + "\n")
        again = mailmerge("send", "spring", "--list", fixed, "--yes")

    assert again.code == 0, again
    assert parsed(server.accepted[-1:]) == {
        "Ana <anna@example.com>": (
            "3 invoices for Ana",
            ["Dear Ana,", "103: €5.25", "101: €10.50", "105: €100.00", "Total: €115.75"],
            ["101.txt", "103.txt", "105.txt", "terms.txt"],
        )
    }


def test_any_row_names_its_message(mailmerge, statements, sandbox):
    """preview, test and send take the message whose row is named, as a whole, and say so."""
    mailmerge.account(sandbox)

    shown = mailmerge("preview", "spring", "--terminal", "--rows", "6")
    tested = mailmerge("test", "spring", "--rows", "4", "--to", "me@example.org", "--json")
    sent = mailmerge("send", "spring", "--rows", "7", "--yes")

    assert "--- rows 2, 4, 6 ---" in shown.out, shown
    assert [one.get("rows") for one in tested.objects if one["type"] == "test"] == [[2, 4, 6]], tested
    assert "row 3 goes with the chosen rows" in sent.out + sent.err, sent
    me, bo = sandbox.messages
    assert Received("", (), me.content).parse()["X-Mailmerge-Test"] == "rows 2, 4, 6"
    assert bo.rcpt_to == ("bo@example.net",)


def test_rows_that_come_too_late_are_told(mailmerge, statements, sandbox):
    """A message that was accepted is not sent again because its group gained a row, which is named."""
    mailmerge.account(sandbox)
    mailmerge("send", "spring", "--yes")
    with (statements / "people.csv").open("a") as people:
        people.write("bo@example.net,Bo,101,3.00,2026-12-09\n")
    (statements / "campaign.toml").write_text(
        TOML.replace("{{ number }}.txt", '{{ number }}.txt"\nshared = true\n#')
    )

    done = mailmerge("check", "spring", "--json")

    told = [one for one in done.objects if one.get("code") == "D272"]
    assert [one["message"] for one in told] == [
        "row 8 is in no message: that of rows 3, 7, 8 (bo@example.net) was accepted before"
    ], done


def test_what_is_counted_is_messages(mailmerge, statements):
    """Wherever a figure is told of messages for several rows: plan, run, report, what is left."""
    with FaultServer({"RCPT": {1: NOBODY, 2: say("450 4.2.1 later")}}, extensions=()) as server:
        mailmerge.account(server)
        sent = mailmerge("send", "spring", "--yes", "--limit", "2", "--set", "send.max_rejected=100%")
    told = [
        mailmerge(*words.split()) for words in ("status spring", "requeue spring", "send spring --dry-run")
    ]
    shown = mailmerge("preview", "spring", "--no-open")
    report = re.sub(r"<[^>]+>", "", (statements / "out" / "report.html").read_text("utf-8"))

    assert "can leave at most 1 message in doubt" in sent.err, sent
    assert "2 messages left" in sent.out, sent
    assert told[0].out.startswith("spring: 3 messages\n"), told[0]
    assert "Requeued 1 message." in told[1].out, told[1]
    assert "Deferred  1 message;" in told[2].err, told[2]
    assert "(3 messages, " in shown.out, shown
    assert "= 3 messages of the list" in report, report
    everything = "\n".join([sent.out, sent.err, *(f"{one.out}\n{one.err}" for one in [*told, shown]), report])
    assert re.findall(r"\d rows? (?:are|is|left|accepted|in doubt|shown)|Deferred rows", everything) == []
