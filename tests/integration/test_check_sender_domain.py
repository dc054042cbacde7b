"""What is said about the sender's records: every case is asked of a DNS server on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from campaigns import write_key
from mailmerge.campaign.check import OnlineChecks
from mailmerge.check.online import Lookup, NoSuchName, system_lookup
from mailmerge.check.sender_domain import aligned, find_dmarc, parse_dmarc, policy_for, sender_domain, walk_up
from servers.names import NameServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from campaigns import CampaignFactory
    from mailmerge.check.message_view import Finding

Records = dict[tuple[str, str], list[str]]
GOOD: Records = {
    ("x.org", "TXT"): ["v=spf1 include:_spf.p.example -all", "other=1"],
    ("_spf.p.example", "TXT"): ["v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"],
    ("_dmarc.x.org", "TXT"): ["v=DMARC1; p=none"],
    ("x.org", "MX"): ["10 mx.x.org."],
    ("mx.x.org", "A"): ["192.0.2.1"],
}


def found(
    records: Records, domain: str = "x.org", *, return_path: str | None = None, signers: Sequence[str] = ()
) -> list[Finding]:
    """Ask a server that has *records* about a domain."""
    with NameServer(records) as server:
        lookup = system_lookup(server=server.address)
        return list(sender_domain(domain, lookup, return_path=return_path, signers=signers))


def told(findings: list[Finding]) -> list[str]:
    """Return codes and messages."""
    return [f"{finding.code} {finding.message}" for finding in findings]


@pytest.fixture(scope="module")
def empty() -> Iterator[Lookup]:
    """Yield a look-up for which no name exists."""
    with NameServer({}) as server:
        yield system_lookup(server=server.address)


def test_a_domain_with_all_records_is_fine() -> None:
    """SPF, DMARC and MX: nothing is said, also of a subdomain that relies on the organisation's DMARC."""
    subdomain = {("news.x.org", "TXT"): ["v=spf1 mx -all"], ("news.x.org", "MX"): ["10 mx.x.org."]}
    assert found(GOOD) == []
    assert found({**GOOD, **subdomain}, "news.x.org") == []


def test_names_that_cannot_be_are_names_that_do_not_exist(empty: Lookup) -> None:
    """An empty or endless label in a record is not a failure of the DNS."""
    for name in ("a..b", "x" * 64 + ".org", ".".join(["abcdefgh"] * 40)):
        with pytest.raises(NoSuchName):
            empty(name, "TXT")


def test_a_dns_that_is_silent_is_told() -> None:
    """Silence is reported, and is not a verdict about the domain."""
    with NameServer(GOOD, silent=["x.org"]) as server:
        lookup = system_lookup(0.1, server.address)
        assert [finding.code for finding in sender_domain("x.org", lookup)] == ["N206"]


# --- SPF ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spf", "message"),
    [
        ([], "N201 x.org has no SPF record"),
        (["v=spf10 -all"], "N201 x.org has no SPF record"),
        (["v=spf1 -all", "v=spf1 mx -all"], "N202 x.org has 2 SPF records"),
        (["V=SPF1 -all", "v=spf1"], "N202 x.org has 2 SPF records"),
        (["v=spf1 " + "mx " * 11 + "-all"], "N203 the SPF record of x.org needs more than 10 look-ups"),
        (["v=spf1 include:x.org -all"], "N203 the SPF record of x.org needs more than 10 look-ups"),
        (["v=spf1 redirect=x.org"], "N203 the SPF record of x.org needs more than 10 look-ups"),
        (["v=spf1 include:five.example include:five.example include:_spf.p.example -all"], "N203"),
        (["v=spf1 ipv4:192.0.2.1 -all"], '"ipv4:192.0.2.1" of x.org is not a valid term'),
        (["v=spf1 ip4:192.0.2 -all"], '"ip4:192.0.2" of x.org is not an IPv4 address or network'),
        (["v=spf1 ip4:2001:db8::1 -all"], "is not an IPv4 address or network"),
        (["v=spf1 ip6:192.0.2.1 -all"], "is not an IPv6 address or network"),
        (["v=spf1 include:_spf.p.example~all"], "refers to no SPF record"),
        (
            ["v=spf1 include:nowhere.example -all"],
            '"include:nowhere.example" of x.org refers to no SPF record',
        ),
        (["v=spf1 include:a..b -all"], "refers to no SPF record"),
        (["v=spf1 include:two.example -all"], "refers to 2 SPF records"),
        (["v=spf1 include:bad.example -all"], '"foo" of bad.example is not a valid term'),
        (["v=spf1 include -all"], '"include" of x.org names no domain'),
        (["v=spf1 a mx:gone.example a:gone.example -all"], "N222 the SPF record of x.org names 3 hosts"),
        (["v=spf1 +all"], "N223 the SPF record of x.org allows everybody to send for it (+all)"),
        (["v=spf1 mx all"], "N223 the SPF record of x.org allows everybody to send for it (+all)"),
    ],
)
def test_each_fault_of_an_spf_record_is_told(spf: list[str], message: str) -> None:
    """Missing, doubled, costly, circular, wrong, void and too generous: one finding each."""
    others: Records = {
        ("two.example", "TXT"): ["v=spf1 -all", "v=spf1 ~all"],
        ("bad.example", "TXT"): ["v=spf1 foo -all"],
        ("five.example", "TXT"): ["v=spf1 " + "mx:x.org " * 4 + "-all"],
    }
    (line,) = told(found({**GOOD, **others, ("x.org", "TXT"): spf}))
    assert message in line


@pytest.mark.parametrize(
    "spf",
    [
        "v=spf1 mx:x.org a:mx.x.org/24 a:mx.x.org/24//64 ~all",
        "v=spf1 exists:%{i}.list.example include:%{d}.example ?all",
        "v=spf1 mx -all redirect=nowhere.example",
        "v=spf1 redirect=nowhere.example -all",
        "v=spf1 -all foo",
        "v=spf1 exp=why.x.org unknown=1 ip4:192.0.2.1 -all",
        "V=SPF1 IP4:192.0.2.1 MX -ALL",
        "v=spf1 redirect=_spf.p.example",
    ],
)
def test_valid_spf_records_are_fine(spf: str) -> None:
    """Macros, modifiers, prefixes and capitals are valid, and nothing counts behind `all`."""
    assert found({**GOOD, ("x.org", "TXT"): [spf]}) == []


def test_spf_is_asked_at_the_return_path() -> None:
    """Receivers look there and not at From (RFC 7208 section 2.4)."""
    records = {**GOOD, ("x.org", "TXT"): [], ("b.x.org", "TXT"): ["v=spf1 -all"]}
    assert found(records, return_path="b.x.org") == []
    assert told(found(GOOD, return_path="b.x.org")) == ["N201 b.x.org has no SPF record"]


# --- DMARC ----------------------------------------------------------------------------------------------


MISTAKES = "N217 the DMARC record of x.org has mistakes"


@pytest.mark.parametrize(
    ("dmarc", "messages"),
    [
        ([], ["N204 x.org has no DMARC record (_dmarc.x.org)"]),
        (["hello"], ["N204 x.org has no DMARC record (_dmarc.x.org)"]),
        (["v=DMARC1; p=none", "v=DMARC1; p=reject"], ["N213 there are 2 DMARC records at _dmarc.x.org"]),
        (["v=dmarc1; p=none"], ['N220 the text at _dmarc.x.org is not a DMARC record: "v=dmarc1; p=none"']),
        (["p=none; v=DMARC1"], ['N220 the text at _dmarc.x.org is not a DMARC record: "p=none; v=DMARC1"']),
        (["v=DMARC1 p=none"], ['N220 the text at _dmarc.x.org is not a DMARC record: "v=DMARC1 p=none"']),
        (["v=DMARC1"], ["N214 the DMARC record of x.org has no policy (p): it is not used at all"]),
        (
            ["v=DMARC1; rua=mailto:a@x.org"],
            ["N214 the DMARC record of x.org has no policy (p): it counts as p=none"],
        ),
        (
            ["v=DMARC1; p=-"],
            ["N214 the DMARC record of x.org has p=-, which is not a valid policy: it is not used at all"],
        ),
        (
            ["v=DMARC1; p=reject; np=no; rua=mailto:a@x.org"],
            ["N214 the DMARC record of x.org has np=no, which is not a valid policy: it counts as p=none"],
        ),
        (
            ["v=DMARC1; p=reject; pct=20; rf=afrf; ri=86400"],
            ["N215 the DMARC record of x.org has tags without effect: pct=20, rf=afrf, ri=86400"],
        ),
        (
            ["v=DMARC1; p=reject; t=y"],
            ["N216 the DMARC record of x.org is being tested (t=y): reject counts as quarantine"],
        ),
        (
            ["v=DMARC1; p=quarantine; T=Y"],
            ["N216 the DMARC record of x.org is being tested (t=y): quarantine counts as none"],
        ),
        (
            ["v=DMARC1; p=none; adkim=x; reject"],
            [f'{MISTAKES}: adkim=x is not a valid value; "reject" is not a tag with a value'],
        ),
        (["v=DMARC1; p=none; ruua=mailto:a@x.org"], [f"{MISTAKES}: ruua is not a tag (did you mean rua?)"]),
        (
            ["v=DMARC1; p=none; p=reject"],
            [f"{MISTAKES}: p appears twice"],
        ),
        (
            ["v=DMARC1; p=none; rua=a@x.org"],
            [f"{MISTAKES}: rua=a@x.org is not an address with mailto:"],
        ),
        (
            ["v=DMARC1; p=none; rua=mailto:a@other.example"],
            ["N219 DMARC reports about x.org are not sent to other.example"],
        ),
        (["v=DMARC1;p=none"], []),
        (["v = DMARC1 ; p = Reject ; "], []),
        (["v=DMARC1; p=none; t=y"], []),
        (["v=DMARC1; p=none; rua=mailto:a@x.org,mailto:b@news.x.org!10m; ruf=mailto:a@x.org; fo=1"], []),
        (["v=DMARC1; p=none; rua=mailto:a@agreed.example"], []),
        (["v=DMARC1; sp=reject; np=reject; p=reject; psd=n; aspf=S; adkim=r"], []),
        (["v=spf1 -all", "v=DMARC1; p=none"], []),
    ],
)
def test_each_fault_of_a_dmarc_record_is_told(dmarc: list[str], messages: list[str]) -> None:
    """Two, none, no policy, removed tags, tests, mistakes, reports that nobody gets; else silence."""
    others: Records = {
        ("_dmarc.x.org", "TXT"): dmarc,
        ("x.org._report._dmarc.agreed.example", "TXT"): ["v=DMARC1"],
    }
    assert told(found({**GOOD, **others})) == messages


def test_a_gone_percentage_says_that_the_policy_is_for_all() -> None:
    """pct=20 limited the policy once: who still relies on it has to know."""
    (finding,) = found({**GOOD, ("_dmarc.x.org", "TXT"): ["v=DMARC1; p=reject; pct=20"]})
    assert finding.hint == ("remove them: the policy is applied to all messages; t=y asks for one level less")


def test_eight_names_are_asked_at_most() -> None:
    """The walk of RFC 9989 section 4.10, with its own example: labels in between are skipped."""
    assert list(walk_up("a.b.c.d.e.f.g.h.i.j.mail.example.com")) == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]
    assert list(walk_up("a.mail.example.com")) == [
        "a.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]


@pytest.mark.parametrize(
    ("records", "domain", "organisation", "record"),
    [
        (
            {"mail.example.com": "p=none", "example.com": "p=reject"},
            "a.mail.example.com",
            *["example.com"] * 2,
        ),
        ({"mail.example.com": "psd=n", "example.com": ""}, "a.mail.example.com", *["mail.example.com"] * 2),
        ({"com": "psd=y"}, "a.mail.example.com", "example.com", "com"),
        ({"example.com": "", "com": "psd=y"}, "a.mail.example.com", *["example.com"] * 2),
        (
            {"a.mail.example.com": "", "example.com": ""},
            "a.mail.example.com",
            "example.com",
            "a.mail.example.com",
        ),
        ({"co.uk": "psd=y"}, "co.uk", "co.uk", "co.uk"),
        ({}, "a.mail.example.com", "a.mail.example.com", None),
        ({"other.com": ""}, "example.com", "example.com", None),
    ],
)
def test_the_organisation_is_found_by_the_tree_walk(
    records: dict[str, str], domain: str, organisation: str, record: str | None
) -> None:
    """No list of public suffixes: psd=n, psd=y, else the shortest name with a record (RFC 9989)."""
    zone = {(f"_dmarc.{name}", "TXT"): [f"v=DMARC1; p=none; {tags}"] for name, tags in records.items()}
    with NameServer(zone) as server:
        dmarc = find_dmarc(domain, system_lookup(server=server.address))
    assert (dmarc.organisation, dmarc.record.domain if dmarc.record else None) == (organisation, record)


def test_the_walk_ends_where_a_record_says_so() -> None:
    """Nothing is asked above psd=n."""
    with NameServer({("_dmarc.b.example.com", "TXT"): ["v=DMARC1; p=none; psd=n"]}) as server:
        find_dmarc("a.b.example.com", system_lookup(server=server.address))
        assert server.asked == ["_dmarc.a.b.example.com TXT", "_dmarc.b.example.com TXT"]


@pytest.mark.parametrize(
    ("domain", "policy"),
    [("x.org", "reject"), ("news.x.org", "quarantine"), ("gone.x.org", "none"), ("empty.x.org", "none")],
)
def test_subdomains_have_the_policy_for_subdomains(domain: str, policy: str) -> None:
    """P for the domain itself, sp for subdomains, np for those that do not exist or have no address."""
    text = "v=DMARC1; p=reject; sp=quarantine; np=none"
    zone: Records = {("news.x.org", "A"): ["192.0.2.1"], ("empty.x.org", "TXT"): ["hello"]}
    record = parse_dmarc("x.org", text)
    assert record is not None
    with NameServer(zone) as server:
        assert policy_for(domain, record, system_lookup(server=server.address)) == policy


def test_a_record_further_up_speaks_by_its_policy_for_subdomains() -> None:
    """t=y lowers sp, and says nothing where sp is none."""
    for sp, codes in (("none", []), ("reject", ["N216"])):
        records: Records = {
            **GOOD,
            ("_dmarc.x.org", "TXT"): [f"v=DMARC1; p=reject; sp={sp}; t=y"],
            ("news.x.org", "TXT"): ["v=spf1 -all"],
            ("news.x.org", "MX"): ["10 mx.x.org."],
        }
        assert [finding.code for finding in found(records, "news.x.org")] == codes


# --- alignment ------------------------------------------------------------------------------------------

_ALIGNED: Records = {
    **GOOD,
    ("b.x.org", "TXT"): ["v=spf1 -all"],
    ("bounces.example", "TXT"): ["v=spf1 -all"],
}


@pytest.mark.parametrize(
    ("tags", "return_path", "signers", "message"),
    [
        ("", "x.org", [], ""),
        ("", "b.x.org", [], ""),
        ("aspf=s", "x.org", [], ""),
        (
            "aspf=s",
            "b.x.org",
            [],
            "the return path at b.x.org is not aligned with From at x.org (strict SPF)",
        ),
        ("", "bounces.example", [], "the return path at bounces.example is not aligned with From at x.org"),
        ("", "bounces.example", ["x.org"], ""),
        ("", "bounces.example", ["b.x.org"], ""),
        ("adkim=s", "bounces.example", ["b.x.org"], "and neither is the DKIM signature of b.x.org (strict)"),
        (
            "",
            "bounces.example",
            ["esp.example"],
            "and neither is the DKIM signature of esp.example (relaxed)",
        ),
        ("", "bounces.example", ["esp.example", "x.org"], ""),
        ("", None, ["esp.example"], ""),
    ],
)
def test_return_path_or_signature_have_to_be_aligned(
    tags: str, return_path: str | None, signers: list[str], message: str
) -> None:
    """One aligned domain is enough; strict wants the same name, relaxed the same organisation."""
    records = {**_ALIGNED, ("_dmarc.x.org", "TXT"): [f"v=DMARC1; p=none; {tags}"]}
    lines = told(found(records, return_path=return_path, signers=signers))
    if message:
        (line,) = lines
        assert line.startswith("N218 ")
        assert message in line
    else:
        assert lines == []


def test_a_record_that_does_not_count_asks_for_no_alignment() -> None:
    """Without a policy and without an address for reports receivers apply no DMARC."""
    records = {**_ALIGNED, ("_dmarc.x.org", "TXT"): ["v=DMARC1; aspf=s"]}
    assert [finding.code for finding in found(records, return_path="b.x.org")] == ["N214"]


def test_relaxed_alignment_knows_no_public_suffix(empty: Lookup) -> None:
    """Two names below one suffix are strangers: without records each is its own organisation."""
    assert not aligned("a.co.uk", "b.co.uk", "r", empty)
    assert aligned("a.co.uk", "a.co.uk", "s", empty)


def test_check_asks_about_the_account_s_return_path(campaign_factory: CampaignFactory) -> None:
    """`check` takes the return path from the account, and asks nothing without being told to."""
    campaign_factory(rows=["a@x.org,Ann"], top='account = "office"', message='from = "me@x.org"')
    campaign_factory.config.write_text(
        '[accounts.office]\nhost = "mail.x.org"\nuser = "me"\nfrom = "me@x.org"\n'
        'return_path = "b@bounces.example"\n'
    )
    with NameServer(_ALIGNED) as server:
        campaign = campaign_factory.open()
        campaign.check()
        assert server.asked == []
        online = OnlineChecks(lookup=system_lookup(server=server.address))
        plan = campaign.check(online=online)
        assert {group.first.code for group in plan.problems} == {"N218"}
        write_key(campaign_factory.folder.parent / "dkim.pem")
        with campaign_factory.config.open("a") as config:
            config.write('dkim = { selector = "s", key_file = "dkim.pem" }\n')
        signed = campaign_factory.open().check(online=online)
    assert "N218" not in {group.first.code for group in signed.problems}
