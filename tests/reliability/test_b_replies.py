"""What a run does about each kind of refusal: continue, reconnect, wait or stop; the rows' status then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from faultd import say
from mailmerge.campaign import Campaign
from mailmerge.campaign.run import SendRequest
from mailmerge.model import Status
from reliability.bench import Bench, address, people, taken_order
from reliability.clocks import SkippingClock
from reliability.conversing import PATIENCE, told

if TYPE_CHECKING:
    from reliability.moody import MoodyServer

MINUTE, HOUR, DAY = 60, 3600, 86400
AUTH, MAIL, RCPT, DATA, DOT = "AUTH", "MAIL", "RCPT", "DATA", "refuse"


@dataclass(frozen=True)
class End:
    """How a run of four rows ends whose second row met the reply, once."""

    code: int
    second: Status
    """The state of the row that met it."""
    others: Status = Status.ACCEPTED
    """The state of the two rows behind it."""
    connections: int = 1
    waits: int = 0
    """Seconds that pass within the run."""
    later: int = 0
    """Seconds after which it says to run again."""


def goes_on(second: Status, later: int = 0) -> End:
    """The row alone suffers."""
    return End(3 if second is Status.REJECTED else 5, second, later=later)


RECONNECTS = End(0, Status.ACCEPTED, connections=2)
ONE_EACH = End(0, Status.ACCEPTED, connections=4)  # it refused the second message of a connection as such
NEEDS_A_PERSON = End(6, Status.PENDING, Status.PENDING)


def waits(seconds: int) -> End:
    """A short pause, then the same row."""
    return End(0, Status.ACCEPTED, waits=seconds, connections=1 if seconds < 30 else 2)


def ends_for(seconds: int) -> End:
    """A pause that only --wait sits out."""
    return End(5, Status.PENDING, Status.PENDING, later=seconds)


QUOTA = End(5, Status.DEFERRED, Status.PENDING, later=DAY)
REJECTED, DEFERRED = Status.REJECTED, Status.DEFERRED

TABLE = [
    ("421 4.3.0 try later", MAIL, RECONNECTS),
    ("421 4.4.5 system busy", RCPT, RECONNECTS),
    ("451 4.3.0 temporary problem", DOT, RECONNECTS),
    ("421 4.7.0 Try again later, closing connection.", MAIL, ends_for(15 * MINUTE)),
    ("421 4.7.28 unusual rate of mail", DOT, ends_for(15 * MINUTE)),
    ("432 4.3.2 Concurrent connections limit exceeded", MAIL, waits(MINUTE)),
    ("450 4.2.1 The user is receiving mail too quickly", RCPT, goes_on(DEFERRED, HOUR)),
    ("450 4.2.1 Peak SMTP relay limit exceeded", DOT, ends_for(10 * MINUTE)),
    ("421 4.4.2 Message submission rate exceeded", MAIL, ends_for(10 * MINUTE)),
    ("450 4.2.0 Greylisted", RCPT, goes_on(DEFERRED, 5 * MINUTE)),
    ("451 DT:SPM please try again", DOT, goes_on(DEFERRED, 2 * MINUTE)),
    ("451 MI:DMC", MAIL, ONE_EACH),
    ("450 RP:DRC", MAIL, ONE_EACH),
    ("451 MI:SFQ", MAIL, ends_for(15 * MINUTE)),
    ("421 HL:ICC", MAIL, ends_for(30 * MINUTE)),
    ("454 Throttling failure: Maximum sending rate exceeded.", DOT, waits(5)),
    ("452 4.5.3 Too many recipients", RCPT, goes_on(DEFERRED, MINUTE)),
    ("452 4.2.2 over quota", RCPT, goes_on(DEFERRED, 6 * HOUR)),
    ("552 5.2.2 mailbox full", RCPT, goes_on(REJECTED)),
    ("452 4.3.1 Insufficient system storage", MAIL, RECONNECTS),
    ("436 MAIL FROM doesn't conform with authentication", MAIL, NEEDS_A_PERSON),
    ("550 5.4.5 Daily user sending limit exceeded.", DOT, QUOTA),
    ("550 5.7.1 you have exceeded your daily sending limit", MAIL, QUOTA),
    ("554 5.2.0 Submission.Exception:SubmissionQuotaExceededException", DOT, QUOTA),
    ("454 Throttling failure: Daily message quota exceeded.", DOT, QUOTA),
    ("552 Not enough sending quota", RCPT, QUOTA),
    ("554 MI:STC", DOT, QUOTA),
    ("451 Maximum credits exceeded", MAIL, QUOTA),
    ("550 Ip frequency limited", DOT, ends_for(HOUR)),
    ("550 5.4.6 Unusual sending activity detected", DOT, NEEDS_A_PERSON),
    ("554 5.1.8 Sender blocked", MAIL, NEEDS_A_PERSON),
    ("551 Main account unavailable", MAIL, NEEDS_A_PERSON),
    ("554 HL:IHU", MAIL, NEEDS_A_PERSON),
    ("553 Mail from must equal authorized user", MAIL, NEEDS_A_PERSON),
    ("553 Relaying disallowed as me@x.example", RCPT, goes_on(DEFERRED, MINUTE)),
    ("554 5.2.0 Submission.Exception:SendAsDeniedException", DOT, NEEDS_A_PERSON),
    ("550 5.7.60 no permission to send as this sender", DOT, NEEDS_A_PERSON),
    ("554 Message rejected: Email address is not verified.", DOT, NEEDS_A_PERSON),
    ("530 5.7.0 Authentication required", MAIL, NEEDS_A_PERSON),
    ("550 5.1.1 no such user", RCPT, goes_on(REJECTED)),
    ("551 user not local", RCPT, goes_on(REJECTED)),
    ("559 Invalid rcptto", RCPT, goes_on(REJECTED)),
    ("554 DT:SPM", DOT, goes_on(REJECTED)),
    ("552 5.7.0 potential security issue in an attachment", DOT, goes_on(REJECTED)),
    ("554 5.7.1 blocked using zen.spamhaus.org", RCPT, ends_for(4 * HOUR)),
    ("552 5.3.4 message too big", DOT, goes_on(REJECTED)),
    ("557 message length", DOT, goes_on(REJECTED)),
    ("500 what?", DATA, goes_on(REJECTED)),
    ("504 parameter not implemented", RCPT, goes_on(REJECTED)),
    ("503 bad sequence of commands", DATA, End(3, REJECTED, connections=2)),
    ("450 4.0.0 something", RCPT, goes_on(DEFERRED, MINUTE)),
    ("554 5.0.0 something", DOT, goes_on(REJECTED)),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "verb", "end"), TABLE, ids=[reply for reply, _, _ in TABLE])
def test_b_the_run_obeys(reply: str, verb: str, end: End, bench: Bench, server: MoodyServer) -> None:
    """The row, the connection, the account or the whole set-up: whoever is meant suffers, and nobody else."""
    bench.rows = 4
    bench.write(people_csv=people(4), send='pipeline = "off"')
    server.change_mood({verb: {2: say(reply)}})
    clock = SkippingClock(nap=0.0)
    report = bench.send(clock=clock, deadlines=PATIENCE)
    shown = told(report)
    assert report.exit_code == end.code, shown
    assert bench.states() == {
        address(1): Status.ACCEPTED,
        address(2): end.second,
        address(3): end.others,
        address(4): end.others,
    }
    bench.check()
    assert len(server.peers) == end.connections
    assert end.waits <= clock.skipped + 0.5 < end.waits + 3
    if end.later:
        assert report.next_at is not None
        seconds = (report.next_at - clock.now()).total_seconds()
        assert end.later * 0.8 - 3 <= seconds <= end.later * 1.21
    if end.code:
        assert reply in shown
    if end.code == 6:
        assert "hint" in shown


def test_b23_a_server_that_named_a_quota_is_asked_once(bench: Bench, server: MoodyServer) -> None:
    """A job every five minutes asks once a day; each run says until when, and `test` may ask meanwhile."""
    bench.rows = 4
    bench.write(people_csv=people(4), send='pipeline = "off"')
    server.change_mood({MAIL: say("550 5.4.5 Daily user sending limit exceeded.")})
    for minutes in range(0, 24 * 60 - 10, 100):
        report = bench.send(clock=SkippingClock(minutes * MINUTE, nap=0.0), deadlines=PATIENCE)
        assert report.exit_code == 5
        assert "Daily user sending limit exceeded" in told(report)
        assert report.next_at is not None
    assert len(server.peers) == 1

    server.change_mood({})
    trial = bench.campaign().test("me@example.net", SendRequest(rows="2", deadlines=PATIENCE))
    assert trial.end.reason == "finished"
    again = bench.send(clock=SkippingClock(nap=0.0), deadlines=PATIENCE, limit=1)
    assert again.counts[Status.ACCEPTED] == 1


def test_b23_another_campaign_of_the_account_is_told_as_well(bench: Bench, server: MoodyServer) -> None:
    """The limit is the account's; when its time has come the server is asked again."""
    server.change_mood({MAIL: {1: say("550 5.4.5 Daily user sending limit exceeded.")}})
    assert bench.send(clock=SkippingClock(nap=0.0), deadlines=PATIENCE).exit_code == 5
    other = bench.mailmerge.campaign("other")
    campaign = Campaign.load(other, environ=bench.mailmerge.environ)
    early = campaign.send(request=SendRequest(deadlines=PATIENCE), clock=SkippingClock(HOUR, nap=0.0))
    assert early is not None
    assert (early.exit_code, len(server.peers)) == (5, 1)
    late = campaign.send(request=SendRequest(deadlines=PATIENCE), clock=SkippingClock(DAY + 60, nap=0.0))
    assert late is not None
    assert late.exit_code == 0


@pytest.mark.parametrize(
    ("reply", "verb", "rows", "says"),
    [
        ("500 what?", DATA, 2, "reported two protocol errors"),
        ("503 bad sequence of commands", DATA, 2, "reported two protocol errors"),
        ("554 DT:SPM", DOT, 3, "refused the content of 3 messages in a row"),
        ("451 DT:SPM please try again", DOT, 3, "refused the content of 3 messages in a row"),
        ("550 5.1.1 no such user", RCPT, 10, "10 rows in a row were rejected"),
    ],
)
def test_b_refusals_that_are_no_longer_about_rows(
    reply: str, verb: str, rows: int, says: str, bench: Bench, server: MoodyServer
) -> None:
    """The same refusal again and again stops the run: exit 5, the rows behind it untouched."""
    bench.rows = 12
    bench.write(people_csv=people(12), send='pipeline = "off"')
    server.change_mood({verb: say(reply)})
    report = bench.send(clock=SkippingClock(nap=0.0), deadlines=PATIENCE)
    assert report.exit_code == 5
    assert says in told(report)
    assert report.counts[Status.PENDING] == 12 - rows
    assert server.accepted == []


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("550 5.7.515 Access denied, sending domain does not meet the required level", Status.REJECTED),
        ("550 5.7.26 unauthenticated", Status.REJECTED),
        ("421 4.7.26 Your email has been rate limited because it is unauthenticated", Status.DEFERRED),
    ],
)
def test_b_a_domain_that_refuses_us(reply: str, status: Status, bench: Bench, server: MoodyServer) -> None:
    """Rows of that domain are left as they are; the others go; what has to be fixed is reported."""
    bench.rows = 6
    rows = [f"{'abcdef'[n]}@{('one', 'two')[n % 2]}.example,P\n" for n in range(6)]
    bench.write(people_csv="email,name\n" + "".join(rows), send='pipeline = "off"')
    server.change_mood({DOT: {2: say(reply)}})
    report = bench.send(clock=SkippingClock(nap=0.0), deadlines=PATIENCE)
    assert report.exit_code == 5
    assert taken_order(server) == ["a@one.example", "c@one.example", "e@one.example"]
    assert list(bench.states().values())[1::2] == [status, Status.PENDING, Status.PENDING]
    assert (
        "two.example refuses mail from this sender: 2 more rows for that domain were not attempted"
        in told(report)
    )


def test_b_a_slower_pace_is_told(bench: Bench, server: MoodyServer) -> None:
    """Complaints about our speed halve it, good rows give it back, and the summary says so."""
    bench.rows = 6
    bench.write(people_csv=people(6), send='rate = "60/m"')
    server.change_mood({DOT: {2: say("454 Throttling failure: Maximum sending rate exceeded.")}})
    report = bench.send(clock=SkippingClock(nap=0.0), deadlines=PATIENCE)
    assert (report.exit_code, report.counts[Status.ACCEPTED]) == (0, 6)
    assert "slowed down once at the server's request: lowest rate 30/min, 30/min at the end" in told(report)


def test_b_a_pause_is_sat_out_with_wait(bench: Bench, server: MoodyServer) -> None:
    """What ends a run without --wait is only a wait with it; nobody is lost or written to twice."""
    server.change_mood(
        {DOT: {2: say("421 4.7.28 unusual rate of mail")}, RCPT: {1: say("450 4.2.0 greylisted")}}
    )
    clock = SkippingClock(nap=0.0)
    report = bench.send(clock=clock, deadlines=PATIENCE, wait=True)
    assert (report.exit_code, report.sent_now) == (0, 3), told(report)
    assert clock.skipped > 15 * MINUTE - 1
    bench.check()
