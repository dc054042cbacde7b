"""What is wrong with server, account or ledger: the right exit code, one clear message, and nothing lost."""

from __future__ import annotations

import datetime as dt
import json
import signal
import ssl

import pytest

import faultd
from campaigns import BODY, PEOPLE
from faultd import FaultServer, say
from mailmerge.sandbox import FaultPlan
from servers.command import CAMPAIGN, Mailmerge, one_error, results, statuses
from servers.kept import KeepingSandbox
from servers.programs import free_port, wait_until


def fails(mailmerge: Mailmerge, exit_code: int, code: str, *words: str) -> None:
    """Send, expect this one error, and every row still waiting."""
    done = mailmerge("send", "spring", "--yes")
    assert done.code == exit_code, done
    one_error(done, code, *words)
    assert "3 pending" in done.out
    assert "Next: mailmerge send spring   3 rows left" in done.out
    assert statuses(mailmerge.folder / "spring") == ["pending"] * 3
    assert not [word for word in ("correct horse", "geheim") if word in done.out + done.err]


def mended(mailmerge: Mailmerge, server: KeepingSandbox) -> None:
    """Nothing was lost: with the right account the same command does it all."""
    mailmerge.account(server)
    done = mailmerge("send", "spring", "--yes")
    assert done.code == 0, done
    assert len(server.messages) == 3


@pytest.mark.program("postfix", "saslpasswd2")
def test_wrong_password(mailmerge, postfix):
    """The server's words and the usual reason; one try, no second mechanism."""
    mailmerge.campaign()
    mailmerge.account(postfix)
    mailmerge.environ["MAILMERGE_SMTP_PASSWORD"] = "geheim"
    before = postfix.connections()

    fails(mailmerge, 6, "S601", "127.0.0.1 refused the sign-in: 535 5.7.8", "app password")

    wait_until(lambda: postfix.connections() > before, "the connection logged")
    assert postfix.connections() == before + 1
    assert postfix.received() == []


def test_no_password(mailmerge, sandbox):
    """All four ways to give one are named."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    del mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]

    fails(
        mailmerge,
        6,
        "S605",
        "no password for sandbox",
        "SMTP_AUTH",
        "password_command",
        "keyring",
        "terminal",
    )

    mended(mailmerge, sandbox)


def test_wrong_port(mailmerge, sandbox):
    """Nobody listens there: a few tries, exit 5, and the usual ports."""
    mailmerge.campaign()
    port = free_port()
    mailmerge.account(sandbox, port=port)

    fails(mailmerge, 5, "S612", f"port {port}: the connection was refused", "587 or 465")

    mended(mailmerge, sandbox)


def test_name_not_found(mailmerge, sandbox):
    """A misspelt host is exit 2: trying again would not help."""
    mailmerge.campaign()
    mailmerge.account(sandbox, host="smtp.no-such-host.invalid")

    fails(mailmerge, 2, "S611", "the host smtp.no-such-host.invalid does not exist", "mailmerge providers")

    mended(mailmerge, sandbox)


@pytest.mark.parametrize(
    ("server_tls", "our_tls", "code", "words"),
    [
        ("starttls", "tls", "S625", ("answered in plaintext, implicit TLS was expected", "port 587")),
        ("tls", "starttls", "S625", ("expects implicit TLS", "port 465")),
        ("none", "starttls", "S626", ("does not offer STARTTLS, so nothing was sent",)),
        ("starttls", "none", "S603", ("does not offer sign-in on this connection", "tls")),
    ],
)
def test_wrong_tls_mode(mailmerge, server_tls, our_tls, code, words):
    """Both ways round it is said which mode belongs where, within seconds; no secret leaves in clear."""
    mailmerge.campaign()
    with KeepingSandbox(tls=server_tls, user="me") as server:
        mailmerge.account(server, tls=our_tls)

        fails(mailmerge, 6, code, *words)


@pytest.mark.parametrize("kind", ["untrusted", "wrong name", "expired"])
def test_certificate_refused(mailmerge, certificates, kind):
    """Each reason has its own words; nothing but EHLO and STARTTLS was said before."""
    mailmerge.campaign()
    host = "mail.example.org" if kind == "wrong name" else "127.0.0.1"
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) if kind == "expired" else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.authority.issue_cert(host, not_after=past).configure_cert(context)
    told = {
        "untrusted": ("S621", "signed by an authority we trust", "ca_file"),
        "wrong name": ("S623", "not for 127.0.0.1"),
        "expired": ("S622", "has expired", "clock"),
    }
    with FaultServer(tls=context, users={"me": "geheim"}) as server:
        ca_file = None if kind == "untrusted" else str(certificates.ca_file)
        mailmerge.account(server, tls="starttls", auth="password", user="me", ca_file=ca_file)
        mailmerge.environ["MAILMERGE_SMTP_PASSWORD"] = "geheim"

        fails(mailmerge, 6, *told[kind])

    assert set(server.verbs()) == {"EHLO", "STARTTLS"}


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_ca_file_unreadable(mailmerge, sandbox, content):
    """A file of authorities that is missing or none is an input error."""
    mailmerge.campaign()
    path = mailmerge.folder / "ca.pem"
    if content:
        path.write_text(content)
    mailmerge.account(sandbox, ca_file=str(path))

    fails(mailmerge, 2, "S642", "ca.pem", "PEM")


def test_b10_sender_refused(mailmerge):
    """What is about the sender stops the run at the first row: all stay pending."""
    mailmerge.campaign()
    with FaultServer({"MAIL": say("553 5.7.1 Mail from must equal authorized user")}) as server:
        mailmerge.account(server)

        fails(
            mailmerge,
            6,
            "S607",
            "553 5.7.1 Mail from must equal authorized user",
            "the account's own address",
        )

    assert server.verbs().count("MAIL") == 1


@pytest.mark.parametrize(
    ("phase", "reply"),
    [
        ("MAIL", "550 5.7.1 Absenderadresse ist für diesen Benutzer nicht zugelassen"),
        ("RCPT", "550 5.7.1 Adresse de l'expéditeur refusée : vous n'êtes pas propriétaire de l'adresse"),
        ("RCPT", "554 5.7.1 Acceso de relay denegado para este equipo"),
        ("RCPT", "553 5.7.1 Отправитель отклонён: адрес не принадлежит пользователю"),
        ("RCPT", "550 5.7.1 Nadawca odrzucony: adres nie należy do użytkownika"),
        ("RCPT", "550 5.1.0 Mittente rifiutato: non autorizzato"),
        ("MAIL", "550 发件人地址与登录用户不一致，拒绝发送"),
        ("RCPT", "550 5.7.1 送信者アドレスは許可されていません"),
        ("content", "554 5.7.1 Afzender geweigerd: niet toegestaan voor dit account"),
    ],
)
def test_b10_refusals_of_the_sender_in_other_languages(phase: str, reply: str, mailmerge):
    """Whatever the language and the phase, they are nobody's fault on the list: all rows stay pending."""
    mailmerge.campaign()
    with FaultServer({phase: say(reply)}) as server:
        mailmerge.account(server)

        fails(mailmerge, 6, "S607", reply)

    # The next one may be on its way when the message is refused.
    assert server.verbs().count("MAIL") == 1 or phase == "content"


def test_sender_not_declared(mailmerge, sandbox):
    """An account sends only as the addresses it has declared; found before anything is sent."""
    mailmerge.campaign()
    mailmerge.account(sandbox, any_from=False)

    done = mailmerge("send", "spring", "--yes")

    assert done.code == 2, done
    one_error(done, "C461", "me@example.org", "campaign.toml:8:8", "aliases")


def test_b11_over_the_servers_size(mailmerge):
    """What the server's SIZE forbids is not begun; both numbers are told."""
    campaign = mailmerge.campaign(
        people_csv=PEOPLE + "di@example.com," + "D" * 60 + "\n",
        body_txt="{% for _ in range(40) %}{{ name }}{% endfor %}\n",
    )
    with KeepingSandbox(tls="none", user=None, max_size=1500) as server:
        mailmerge.account(server)
        done = mailmerge("send", "spring", "--yes")

    assert done.code == 3, done
    assert statuses(campaign) == ["accepted", "accepted", "accepted", "rejected"]
    assert "octets, the server accepts 1500" in done.out
    assert "the server accepts 1500" in results(campaign, "failed.csv")[0]["mailmerge_reply"]
    assert len(server.messages) == 3


# --- changed under us -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"body_txt": "Other words for {{ name }}.\n"}, "templates"),
        ({"campaign_toml": CAMPAIGN.replace("Hello", "Hi")}, "subject"),
        ({"campaign_toml": CAMPAIGN.replace("Me <", "You <")}, "sender"),
        ({"campaign_toml": CAMPAIGN + '\n[[attach]]\npath = "body.txt"\n'}, "attachments"),
    ],
)
def test_message_changed_half_way(mailmerge, sandbox, files, named):
    """A changed message stops the second run and names what changed."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    mailmerge.campaign(**files)

    stopped = mailmerge("send", "spring", "--yes")
    assert stopped.code == 2, stopped
    one_error(stopped, "C470", named, "1 row was accepted as it was", "--accept-changes", "--name NEW")
    assert len(sandbox.messages) == 1


def test_two_ways_on_after_a_change(mailmerge, sandbox):
    """``--accept-changes`` sends the rest and nobody twice; ``--name`` writes to everybody again.

    Those who have the very same message already are sent to again only where that is agreed to.
    """
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    mailmerge.campaign(body_txt="Other words for {{ name }}.\n")

    assert mailmerge("send", "spring", "--yes", "--accept-changes").code == 0
    assert [m.rcpt_to[0] for m in sandbox.messages] == ["ana@example.com", "bo@example.net", "cy@example.org"]
    assert statuses(campaign) == ["accepted"] * 3
    refused = mailmerge("send", "spring", "--yes", "--name", "autumn")
    assert refused.code == 2, refused
    one_error(refused, "C472", "2 rows", "row 3 (bo@example.net), row 4 (cy@example.org)")
    anew = mailmerge("send", "spring", "--yes", "--name", "autumn", "--accept-repeats")
    assert anew.code == 0, anew
    assert len(sandbox.messages) == 6


def test_attached_file_changed_half_way(mailmerge, sandbox):
    """The bytes of a fixed attachment belong to the message as well."""
    toml = CAMPAIGN + '\n[[attach]]\npath = "terms.txt"\n'
    mailmerge.campaign(campaign_toml=toml, terms_txt="one")
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    mailmerge.campaign(campaign_toml=toml, terms_txt="two")

    done = mailmerge("send", "spring", "--yes")

    assert done.code == 2, done
    one_error(done, "C470", "files")


def test_list_edited_sorted_and_grown_half_way(mailmerge, sandbox):
    """Rows are known by address, never by number: what is new is sent, what was sent is not sent again."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    mailmerge.campaign(
        people_csv="name,email\nDi,di@example.com\nCyril,cy@example.org\nAna Maria,ANA@example.com\n"
    )

    done = mailmerge("send", "spring", "--yes")

    assert done.code == 0, done
    assert [message.rcpt_to[0] for message in sandbox.messages] == [
        "ana@example.com",
        "di@example.com",
        "cy@example.org",
    ]
    assert b"Subject: Hello Cyril\r\n" in sandbox.messages[2].content
    assert [(row["row"], row["status"]) for row in results(campaign)] == [
        ("2", "accepted"),
        ("3", "accepted"),
        ("4", "accepted"),
    ]


def test_list_overwritten_in_mid_run(mailmerge):
    """The run sends from its own copy: a list saved during the run changes nothing about it."""
    campaign = mailmerge.campaign()
    with KeepingSandbox(faults=FaultPlan(delay=0.1)) as server:
        mailmerge.account(server)
        process = mailmerge.start("send", "spring", "--yes", "--rate", "5/s")
        wait_until(lambda: len(server.messages) >= 1, "the first message")
        (campaign / "people.csv").write_text("email,name\nx@example.com,X\n")
        done = mailmerge.finish(process)

    assert done.code == 0, done
    assert [m.rcpt_to[0] for m in server.messages] == ["ana@example.com", "bo@example.net", "cy@example.org"]


# --- ledger and locks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda folder: (folder / ".mailmerge" / "ledger.db").mkdir(parents=True), "L702", ["ledger.db"]),
        (lambda folder: (folder / ".mailmerge").write_text(""), "L702", ["cannot use spring/.mailmerge"]),
        (lambda folder: (folder.parent / "home" / "state").write_text(""), "L710", ["home/state"]),
    ],
)
def test_ledger_unwritable(mailmerge, sandbox, spoil, code, words):
    """Where progress cannot be recorded nothing is sent: exit 8."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    spoil(campaign)

    done = mailmerge("send", "spring", "--yes")

    assert done.code == 8, done
    one_error(done, code, *words)
    assert sandbox.messages == []


def test_ledger_damaged(mailmerge, sandbox):
    """A ledger that is not a database is never overwritten."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    ledger = campaign / ".mailmerge" / "ledger.db"
    ledger.write_bytes(b"garbage " * 4096)

    for command in ("send", "status", "report"):
        done = mailmerge(command, "spring", *(["--yes"] if command == "send" else []))
        assert done.code == 8, done
        one_error(done, "L701", "the ledger is damaged: spring/.mailmerge/ledger.db", "backup")
    assert ledger.read_bytes() == b"garbage " * 4096
    assert len(sandbox.messages) == 1


@pytest.mark.parametrize(("folder", "code"), [("spring", "L707"), ("summer", "L711")])
def test_second_process(mailmerge, folder, code):
    """One process a campaign, one session an account: the second one is told who has it, exit 7."""
    mailmerge.campaign("spring")
    mailmerge.campaign("summer", body_txt=f"{BODY}It is summer.\n")
    with FaultServer({"content": faultd.hang}, users={"me": "geheim"}) as server:
        mailmerge.account(server, tls="none", auth="password", user="me")
        mailmerge.environ["MAILMERGE_SMTP_PASSWORD"] = "geheim"
        first = mailmerge.start("send", "spring", "--yes")
        try:
            assert server.wait_for(lambda: "DATA" in server.verbs(), 10)
            second = mailmerge("send", folder, "--yes")
            status = mailmerge("status", "spring")
        finally:
            first.send_signal(signal.SIGKILL)
            first.communicate()

    assert second.code == 7, second
    one_error(second, code, f"pid {first.pid} since ")
    assert status.code == 0, status


# --- refusals about us that servers give at RCPT --------------------------------------------------------


@pytest.mark.program("postfix", "saslpasswd2")
@pytest.mark.parametrize(
    ("what", "words", "key"),
    [
        ("sender", "Sender address rejected: not owned by user", "`aliases`"),
        ("helo", "Helo command rejected", "`helo`"),
        ("client for now", "450 4.7.1 <unknown[127.0.0.1]>: Client host rejected", "`port`"),
        ("relay", "Relay access denied", "`user`"),
    ],
)
def test_b10_postfix_refuses_us_at_the_first_recipient(what: str, words: str, key: str, mailmerge, postfix):
    """One MAIL, every row still waiting, and what to change; `check --smtp` says the same before."""
    mailmerge.campaign()
    mailmerge.account(postfix, port=postfix.refusing[what])

    fails(mailmerge, 6, "S607", words, key)

    if what == "sender":
        checked = mailmerge("check", "spring", "--smtp")
        assert (checked.code, words in checked.err, key in checked.err) == (6, True, True), checked


@pytest.mark.program("postfix", "saslpasswd2")
def test_b21_postfix_quotes_what_the_recipients_servers_think_of_us(mailmerge, postfix):
    """Three domains that say so in a row are enough: every row is pending, as if it had not been tried."""
    people = "".join(f"p{number}@d{number}.example,P{number}\n" for number in range(6))
    mailmerge.campaign(people_csv="email,name\n" + people)
    mailmerge.account(postfix, port=postfix.refusing["verify"])
    refusal = say("554 5.7.1 <postfix.test[192.0.2.1]>: Client host rejected: Access denied")
    with FaultServer({"RCPT": refusal}, port=postfix.next_hop):
        done = mailmerge("send", "spring", "--yes")
    assert done.code == 6, done
    one_error(done, "S607", "rows of 3 domains in a row", "undeliverable address", "Client host rejected")
    shown = results(mailmerge.folder / "spring")
    assert {(row["status"], row["attempts"]) for row in shown} <= {("pending", "0"), ("pending", "")}


def test_b21_one_recipient_s_server_that_dislikes_us_is_one_deferred_row(mailmerge):
    """Later in a run a refusal about us is the row's until others confirm it: the others go out."""
    mailmerge.campaign()
    faults = {"RCPT": {2: say("554 5.7.1 <bo@example.net>: Relay access denied")}}
    with FaultServer(faults, extensions=()) as server:
        mailmerge.account(server, tls="none", auth="none", user=None)
        done = mailmerge("send", "spring", "--yes")
    assert done.code == 5, done
    assert statuses(mailmerge.folder / "spring") == ["accepted", "deferred", "accepted"]


# --- one row that the server always answers like a server in trouble -------------------------------------


def poisoned(reply: str):
    """Answer one recipient, the first of the list, like this each time, and take all others."""
    usual = say("250 2.1.5 ok")

    def fault(peer: faultd.Peer) -> bytes | None:
        meant = b"<p0@" in peer.server.commands[-1]
        return (say(reply) if meant else usual)(peer)

    return FaultServer({"RCPT": fault})


def test_b22_one_poisoned_row_of_thirty(mailmerge):
    """29 are accepted in the first run, the row is deferred with one try, and screen and file say why."""
    mailmerge.campaign(people_csv="email,name\n" + "".join(f"p{n}@d{n}.example,P\n" for n in range(30)))
    with poisoned("451 4.3.0 <p0@d0.example>: Temporary lookup failure") as server:
        mailmerge.account(server, tls="none", auth="none", user=None)
        done = mailmerge("send", "spring", "--yes")
    assert done.code == 5, done
    assert "29 accepted   1 deferred" in done.out
    assert 'row 2 (p0@d0.example) was deferred: the server answered "451 4.3.0' in done.out + done.err
    first = results(mailmerge.folder / "spring")[0]
    assert (first["status"], first["attempts"]) == ("deferred", "1")


def test_b22_a_row_that_stopped_the_last_run_comes_last_in_the_next(mailmerge):
    """A reply that ends a run immediately ends the next one only after everybody else."""
    mailmerge.campaign()
    mailmerge.campaign(people_csv="email,name\n" + "".join(f"p{n}@d{n}.example,P\n" for n in range(5)))
    with poisoned("421 4.7.0 unusual rate of mail, try again later") as server:
        mailmerge.account(server, tls="none", auth="none", user=None)
        first, second = mailmerge("send", "spring", "--yes"), mailmerge("send", "spring", "--yes")
    assert (first.code, second.code) == (5, 5), (first, second)
    assert statuses(mailmerge.folder / "spring") == ["pending"] + ["accepted"] * 4


# --- what servers say, wherever it is shown -----------------------------------------------------------------

_STEERING = "no\x1b[31m \x07\x7f \x85 \u202eevil\u202c \u200b \U000e0041 end"
_AS_SHOWN = r"no\x1b[31m \x07\x7f \x85 \u202eevil\u202c \u200b \U000e0041 end"


def test_a_reply_is_shown_escaped_everywhere_and_kept_in_two_kilobytes(mailmerge):
    """Transcript, CSV, JSON lines, `--json` and screen: the same words, and nothing that steers or hides."""
    mailmerge.campaign()
    reply = f"550 5.1.1 {_STEERING} {'x' * 60_000}"

    def fault(peer: faultd.Peer) -> bytes | None:
        return say(reply if b"<bo@" in peer.server.commands[-1] else "250 ok")(peer)

    with FaultServer({"RCPT": fault}) as server:
        mailmerge.account(server, tls="none", auth="none", user=None)
        done = mailmerge("send", "spring", "--yes", "--json", "--transcript", "talk.txt")
    assert done.code == 3, done
    out = mailmerge.folder / "spring" / "out"
    shown = {name: (out / name).read_text("utf-8-sig") for name in ("results.csv", "failed.csv")}
    lines = (out / "results.jsonl").read_text("utf-8").splitlines()
    shown |= {
        "results.jsonl": "".join(str(json.loads(line)["reply"]) for line in lines),
        "transcript": (mailmerge.folder / "talk.txt").read_text("utf-8"),
        "--json": "".join(str(line.get("reply", "")) for line in done.objects),
        "status": mailmerge("report", "spring").out + mailmerge("status", "spring").out,
    }
    for where, text in shown.items():
        assert not [char for char in text if not (char.isprintable() or char in "\r\n")], where
        assert where == "status" or _AS_SHOWN in text, where
        assert where == "transcript" or text.count("x") < 2_100, where


@pytest.mark.parametrize("what", ["nobody there", "sign-in refused", "nothing to send"])
def test_a_run_without_outcomes_has_a_report_page(what: str, mailmerge, sandbox):
    """Also where nothing was sent there is a page to look at."""
    mailmerge.campaign(people_csv="email,name\n" if what == "nothing to send" else PEOPLE)
    mailmerge.account(sandbox, **({"port": free_port()} if what == "nobody there" else {}))
    if what == "sign-in refused":
        mailmerge.environ["MAILMERGE_SMTP_PASSWORD"] = "geheim"
    done = mailmerge("send", "spring", "--yes")
    if what == "nothing to send":
        assert done.code in {0, 2}, done
    else:
        assert done.code in {5, 6}, done
        assert "3 pending" in done.out
        assert (mailmerge.folder / "spring" / "out" / "report.html").exists()
