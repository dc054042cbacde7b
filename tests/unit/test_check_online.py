"""Checks that ask other machines: DNS by a table, links and sign-in on loopback."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from mailmerge.campaign.check import OnlineChecks, known_account, try_sign_in
from mailmerge.check import online
from mailmerge.check.online import SECONDS_BETWEEN, LinkCheck, is_public
from servers.kept import KeepingSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from campaigns import CampaignFactory

GOOD = {
    ("x.org", "TXT"): ["v=spf1 include:_spf.p.example -all", "other=1"],
    ("_spf.p.example", "TXT"): ["v=spf1 ip4:192.0.2.0/24 -all"],
    ("_dmarc.x.org", "TXT"): ["v=DMARC1; p=none"],
    ("x.org", "MX"): ["10 mx.x.org."],
}


def table(records: dict[tuple[str, str], list[str]]) -> online.Lookup:
    """Return a look-up with only these records; a name without any does not exist."""

    def lookup(name: str, kind: online.RecordType) -> list[str]:
        if name == "silent.example":
            raise online.NoAnswer(name)
        if (name, kind) in records:
            return records[name, kind]
        if any(known == name for known, _ in records):
            return []
        raise online.NoSuchName(name)

    return lookup


def test_domains_of_recipients_that_take_no_mail_name_their_rows() -> None:
    """No such domain, a null MX, neither MX nor address; an address alone is enough."""
    records = {
        **GOOD,
        ("null.example", "MX"): ["0 ."],
        ("plain.example", "A"): ["192.0.2.1"],
        ("empty.example", "TXT"): ["hello"],
    }
    rows = {
        "x.org": [2],
        "null.example": [3, 4],
        "plain.example": [5],
        "empty.example": [6],
        "gone.example": [7],
    }
    found = {finding.message: numbers for finding, numbers in online.recipient_domains(rows, table(records))}
    assert found == {
        "null.example does not accept mail: it has a null MX record": [3, 4],
        "empty.example does not accept mail: it has neither an MX nor an address record": [6],
        "gone.example does not accept mail: the domain does not exist": [7],
    }


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("192.168.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("::ffff:93.184.215.14", False),
        ("::93.184.215.14", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d70e", False),
        ("64:ff9b:1::1", False),
        ("2002:7f00:1::1", False),
        ("2002:5db8:d70e::1", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("ff02::1", False),
        ("100::1", False),
        ("192.88.99.1", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
    ],
)
def test_f44_only_addresses_of_the_internet_are_public(address: str, public: bool) -> None:
    """Loopback, private, shared, link-local, multicast and special ones are not, nor what represents IPv4."""
    assert is_public(address) is public


class _Pages(BaseHTTPRequestHandler):
    asked: list[str]

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        status = {"/fine": 200, "/gone": 404, "/programs": 403, "/moved": 302, "/inside": 302, "/round": 302}
        self.send_response(status[self.path])
        goals = {"/moved": "/fine", "/inside": "http://inside.example/x", "/round": "/round"}
        if self.path in goals:
            self.send_header("Location", goals[self.path])
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def pages() -> Iterator[tuple[int, list[str]]]:
    """Serve a few pages on loopback; gives the port and what was asked for."""
    asked: list[str] = []
    handler = type("Pages", (_Pages,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1], asked
        server.shutdown()
        thread.join()


def link_check(waited: list[float] | None = None) -> LinkCheck:
    """Return a check for which "page.example" is this machine and counts as public."""
    return LinkCheck(
        public=lambda address: address == "127.0.0.1",
        lookup=lambda host, _port: ["127.0.0.1"] if host == "page.example" else ["10.0.0.7"],
        sleep=(waited if waited is not None else []).append,
        clock=lambda: 0.0,
    )


def test_links_that_answer_with_an_error_are_told_from_those_that_refuse_programs() -> None:
    """404 is said, 403 is not; redirects are followed; private goals never, not even by redirect."""
    with pages() as (port, asked):
        base = f"http://page.example:{port}"
        paths = ("/fine", "/gone", "/programs", "/moved", "/inside", "/round")
        found = list(link_check().look([*(base + path for path in paths), "http://inside.example/"]))
    assert [(finding.code, finding.message.partition(port_text(port))[2]) for finding in found] == [
        ("N210", '/gone" returns status 404'),
        ("N212", '/inside" (its host resolves to the private address 10.0.0.7)'),
        ("N211", '/round" cannot be reached: it redirects endlessly'),
        ("N212", ""),
    ]
    assert asked.count("/fine") == 2


def port_text(port: int) -> str:
    """Return the port as it is written in a link."""
    return f":{port}"


def test_one_host_is_asked_at_most_once_a_second() -> None:
    """The second request waits; the wait is ours, not the server's."""
    waited: list[float] = []
    with pages() as (port, _):
        list(link_check(waited).look([f"http://page.example:{port}/fine"] * 3))
    assert waited == [SECONDS_BETWEEN] * 2


def test_f44_a_request_has_one_deadline() -> None:
    """A server that trickles its answer, or redirects slowly, ends with the time of the whole request."""
    stop = threading.Event()

    def trickle(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, suppress(OSError):
            peer.recv(1000)
            for octet in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
                peer.sendall(bytes([octet]))
                if stop.wait(0.05):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        check = link_check()
        check.clock, check.timeout = time.monotonic, 0.3
        before = time.monotonic()
        (finding,) = check.look([f"http://page.example:{listener.getsockname()[1]}/"])
        passed = time.monotonic() - before
        stop.set()
        thread.join()

    assert finding.code == "N211"
    assert finding.message.endswith("cannot be reached: the server did not answer in time")
    assert passed < 2


def test_f44_a_resolver_that_is_silent_is_not_waited_for() -> None:
    """The system's resolver may take minutes: the check does not."""
    answer = threading.Event()
    check = link_check()
    check.lookup = lambda _host, _port: ["127.0.0.1"] if answer.wait(20) else []
    check.clock, check.timeout = time.monotonic, 0.1
    (finding,) = check.look(["http://page.example/"])
    answer.set()

    assert finding.message.endswith(": the server did not answer in time")


def test_a_server_that_is_not_there_is_said() -> None:
    """A refused connection is a finding, not a failure of the check."""
    (finding,) = link_check().look(["http://page.example:1/"])
    assert finding.code == "N211"


LINKS = {"body.txt": "Hi {{ name }}, http://page.example:1/a. http://page.example/unsubscribe\n"}


def test_check_asks_only_what_it_was_asked_to(campaign_factory: CampaignFactory) -> None:
    """DNS and links add their findings with rows; links that unsubscribe are never tried."""
    online = OnlineChecks(lookup=table(GOOD), links=link_check())
    campaign = campaign_factory(LINKS, rows=["a@x.org,Ann", "b@gone.example,Bo"], message='from = "me@x.org"')

    plan = campaign.check(online=online)

    found = {group.first.code: (group.first.message, group.rows) for group in plan.problems}
    assert found["N301"] == ("gone.example does not accept mail: the domain does not exist", [3])
    assert found["N211"][0].startswith('"http://page.example:1/a" cannot be reached')
    assert "N301" not in {group.first.code for group in campaign.check().problems}


@pytest.mark.parametrize(("password", "steps", "code"), [("right", 5, None), ("wrong", 2, "S601")])
def test_signing_in_is_tried_step_by_step(
    campaign_factory: CampaignFactory, password: str, steps: int, code: str | None
) -> None:
    """Each step that was made is told, and the error of the one that failed; no mail is handed over."""
    campaign_factory()
    with KeepingSandbox() as server:
        environ = {
            "SMTP_SERVER": server.host,
            "SMTP_PORT": str(server.port),
            "SMTP_TLS": "starttls",
            "SMTP_USER": server.user or "",
            "SMTP_FROM": "me@example.org",
            "SMTP_AUTH": server.password if password == "right" else "wrong",
        }
        opened = campaign_factory.open(**environ)
        account, unusable = known_account(opened.definition)
        assert account is not None
        assert unusable is None
        tried = try_sign_in(opened.definition, replace(account, ca_file=server.ca_file))
    assert (len(tried.steps), tried.error.code if tried.error else None) == (steps, code)
    assert server.messages == []
