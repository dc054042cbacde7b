"""The providers' data file: complete, consistent, and found by every name."""

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest

import mailmerge
from mailmerge.addresses import MailDomain, mail_domains, provider_data, suggest
from mailmerge.errors import CampaignFileError
from mailmerge.model import Rate
from mailmerge.providers import (
    Provider,
    ProviderServer,
    find_provider,
    get_provider,
    provider_for_address,
    provider_for_host,
    provider_names,
    providers,
    sign_in_refusals,
)
from mailmerge.smtp.endpoint import Endpoint

README = Path(__file__).parents[2] / "README.zh-CN.md"
HOSTS = {
    "qq": "smtp.qq.com:465 tls",
    "163": "smtp.163.com:465 tls",
    "126": "smtp.126.com:465 tls",
    "yeah": "smtp.yeah.net:465 tls",
    "gmail": "smtp.gmail.com:465 tls",
    "workspace": "smtp.gmail.com:465 tls",
    "workspace-relay": "smtp-relay.gmail.com:587 starttls",
    "outlook": "smtp-mail.outlook.com:587 starttls",
    "microsoft365": "smtp.office365.com:587 starttls",
    "yahoo": "smtp.mail.yahoo.com:465 tls",
    "icloud": "smtp.mail.me.com:587 starttls",
    "zoho": "smtp.zoho.com:465 tls",
    "zoho-eu": "smtp.zoho.eu:465 tls",
    "zoho-in": "smtp.zoho.in:465 tls",
    "zoho-jp": "smtp.zoho.jp:465 tls",
    "zoho-au": "smtp.zoho.com.au:465 tls",
    "fastmail": "smtp.fastmail.com:465 tls",
    "ses-eu-west-1": "email-smtp.eu-west-1.amazonaws.com:587 starttls",
    "sendgrid": "smtp.sendgrid.net:587 starttls",
    "mailgun": "smtp.mailgun.org:587 starttls",
    "mailgun-eu": "smtp.eu.mailgun.org:587 starttls",
    "postmark": "smtp.postmarkapp.com:587 starttls",
    "postmark-broadcasts": "smtp-broadcasts.postmarkapp.com:587 starttls",
    "brevo": "smtp-relay.brevo.com:587 starttls",
    "aliyun": "smtpdm.aliyun.com:465 tls",
    "aliyun-ap-southeast-1": "smtpdm-ap-southeast-1.aliyun.com:465 tls",
    "exmail": "smtp.exmail.qq.com:465 tls",
    "feishu": "smtp.feishu.cn:465 tls",
    "aliyun-qiye": "smtp.qiye.aliyun.com:465 tls",
    "tencent-ses": "smtp.qcloudmail.com:465 tls",
    "azure": "smtp.azurecomm.net:587 starttls",
    "microsoft-hve": "smtp.hve.mx.microsoft:587 starttls",
    "resend": "smtp.resend.com:465 tls",
    "mailjet": "in-v3.mailjet.com:587 starttls",
    "scaleway": "smtp.tem.scaleway.com:587 starttls",
    "sparkpost-eu": "smtp.eu.sparkpostmail.com:587 starttls",
    "zeptomail-in": "smtp.zeptomail.in:587 starttls",
    "workmail": "smtp.mail.us-east-1.awsapps.com:465 tls",
    "gmx": "mail.gmx.net:465 tls",
    "gmx-com": "mail.gmx.com:465 tls",
    "web.de": "smtp.web.de:587 starttls",
    "t-online": "securesmtp.t-online.de:465 tls",
    "ionos-uk": "smtp.ionos.co.uk:465 tls",
    "proton": "smtp.protonmail.ch:587 starttls",
    "yandex": "smtp.yandex.com:465 tls",
    "mail.ru": "smtp.mail.ru:465 tls",
    "infomaniak": "mail.infomaniak.com:465 tls",
    "ses-us-gov-west-1": "email-smtp.us-gov-west-1.amazonaws.com:587 starttls",
}


@pytest.mark.parametrize("name", HOSTS)
def test_first_server(name: str) -> None:
    """Each preset, with its regions, leads to its submission server."""
    assert str(find_provider(name).servers[0]) == HOSTS[name]


@pytest.mark.parametrize("provider", providers(), ids=lambda provider: provider.name)
def test_complete(provider: Provider) -> None:
    """Every provider has servers, steps to sign in, a page to read, and a mark for each number."""
    assert provider.title
    assert provider.page.startswith("https://")
    assert len(provider.steps) >= 2
    assert all(step.endswith((".", ")", "].")) for step in provider.steps)
    assert provider.rates
    assert all(server.tls in ("tls", "starttls") for server in provider.servers)
    numbers = {"servers", "rates", "quota", "max_size", "max_recipients", "per_connection", "sessions"}
    assert set(provider.marks) == {name for name in numbers if getattr(provider, name) is not None}
    assert set(provider.marks.values()) <= {"confirmed", "assumed", "ours"}
    assert not re.search(r"issue|SCENARIO", " ".join((*provider.notes, *provider.steps)))


@pytest.mark.parametrize("provider", providers(), ids=lambda provider: provider.name)
def test_where_and_when_it_was_checked(provider: Provider) -> None:
    """A source with https and a day on which this program existed; its servers are ones to connect to."""
    assert (provider.source or provider.page).startswith("https://")
    assert date(2026, 1, 1) <= provider.checked < date(2030, 1, 1)
    for place in (provider, *map(provider.in_region, provider.regions)):
        for server in () if place.needs_region else place.servers:
            endpoint = Endpoint(server.host, server.port, server.tls, helo="pc.example.org")
            assert endpoint.host == server.host
            assert re.fullmatch(r"(?:[a-z0-9-]+\.)+[a-z]{2,}", server.host)


def test_no_domain_belongs_to_two_providers() -> None:
    """An address leads to one preset."""
    domains = [domain for provider in providers() for domain in provider.domains]
    assert sorted(domains) == sorted(set(domains))
    assert [
        found.name if (found := provider_for_address(name)) else None
        for name in ("gmx.at", "web.de", "pm.me", "bk.ru", "sbcglobal.net", "wanadoo.fr", "posteo.net")
    ] == ["gmx", "web-de", "proton", "mail-ru", "att", "orange", "posteo"]


@pytest.mark.parametrize("domain", ["email.com", "mail.de", "post.ch", "post.at", "inbox.lv", "online.no"])
def test_real_domains_near_to_a_provider_s_are_left_alone(domain: str) -> None:
    """The hint for a comma in an address repairs the comma, and invents no other provider."""
    assert suggest(f"ann@{domain.replace('.', ',')}") == f"ann@{domain}"


def test_who_signs_the_headers_of_one_click() -> None:
    """Only what was seen is claimed: of all others it is not known."""
    signing = {provider.name: provider.signs_unsubscribe for provider in providers()}
    assert {name for name, signs in signing.items() if signs} == {"sendgrid", "mailjet", "smtp2go", "proton"}
    assert {name for name, signs in signing.items() if signs is False} == {"outlook", "microsoft365"}


def test_each_provider_is_in_one_group() -> None:
    """Services for sending, one's own domain, the provider's domains."""
    groups = {provider.name: provider.group for provider in providers()}
    assert {groups[name] for name in ("ses", "aliyun", "azure", "microsoft-hve")} == {"service"}
    assert {groups[name] for name in ("workspace", "microsoft365", "ionos")} == {"organisation"}
    assert {groups[name] for name in ("gmail", "gmx", "qq")} == {"mailbox"}


@pytest.mark.parametrize("name", ["qq", "163", "126", "yeah"])
def test_steps_in_chinese(name: str) -> None:
    """The providers whose pages are Chinese are explained in Chinese too, with the name of the code."""
    provider = find_provider(name)
    assert len(provider.steps_zh) == len(provider.steps) == 6
    assert "开启" in "".join(provider.steps_zh)
    assert "授权" in provider.secret
    assert provider.spaces == "keep"


def test_limits() -> None:
    """Known limits are the published ones; unpublished ones are marked as chosen by us."""
    gmail, workspace, qq = find_provider("gmail"), find_provider("workspace"), find_provider("qq")
    assert (gmail.quota, gmail.max_recipients, gmail.max_size) == (Rate(500, 86400), 100, 25_000_000)
    assert gmail.spaces == "remove"
    assert workspace.rates == (Rate(20, 60), Rate(2000, 86400))
    assert workspace.steps == gmail.steps
    assert (qq.rates, qq.quota) == ((Rate(10, 60),), Rate(200, 86400))
    assert (qq.marks["rates"], qq.marks["quota"]) == ("ours", "ours")
    assert find_provider("163").per_connection == 50
    assert find_provider("microsoft365").rates == (Rate(30, 60),)
    assert find_provider("aliyun").rates[1] == Rate(5000, 180)
    assert find_provider("azure").max_recipients == 50
    assert find_provider("scaleway").max_size == 50_000_000
    assert find_provider("resend").quota is None


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("office365", "microsoft365"),
        ("outlook365", "microsoft365"),
        ("hotmail", "outlook"),
        ("Google", "gmail"),
        ("sendinblue", "brevo"),
        ("qqmail", "qq"),
        ("amazon-ses", "ses"),
        ("腾讯企业邮箱", "exmail"),
    ],
)
def test_aliases(name: str, key: str) -> None:
    """The names that people use lead to the preset."""
    assert find_provider(name).name == key


def test_no_name_means_two_providers() -> None:
    """No alias hides another provider."""
    names = [provider.name for provider in providers()]
    names += [alias for provider in providers() for alias in provider.aliases]
    names += [f"{provider.name}-{region}" for provider in providers() for region in provider.regions]
    assert len(names) == len(set(names)) == len(provider_names())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gmial", "did you mean `gmail`?"),
        ("outlok", "did you mean `outlook`?"),
        ("zoho-ue", "did you mean `zoho-eu`?"),
        ("example", "`mailmerge providers` shows them all"),
    ],
)
def test_unknown_name(name: str, hint: str) -> None:
    """A misspelt provider is guessed."""
    with pytest.raises(CampaignFileError, match=f'^no provider is called "{name}"$') as caught:
        find_provider(name)
    assert (caught.value.code, caught.value.hint) == ("C410", hint)
    assert get_provider(name) is None


def test_found_by_host_and_address() -> None:
    """A server's name gives its limits, the more careful ones if two providers share it."""
    hosts = ("SMTP.gmail.com.", "email-smtp.eu-west-1.amazonaws.com", "smtp.zoho.com.au", "smtp.example.org")
    assert [found.name if (found := provider_for_host(host)) else None for host in hosts] == [
        *("gmail", "ses-eu-west-1", "zoho-au", None)
    ]
    domains = ("foxmail.com", "googlemail.com", "example.org")
    assert [found.name if (found := provider_for_address(domain)) else None for domain in domains] == [
        *("qq", "gmail", None)
    ]


def test_region() -> None:
    """A provider without a default region says so until one is chosen."""
    ses = find_provider("ses")
    assert (ses.needs_region, ses.in_region("eu-west-1").needs_region) == (True, False)
    assert ses.in_region("us-east-1").servers[1] == ProviderServer(
        "email-smtp.us-east-1.amazonaws.com", 465, "tls"
    )
    assert [provider.name for provider in providers() if provider.needs_region] == ["ses"]


@pytest.mark.parametrize("provider", providers(), ids=lambda provider: provider.name)
def test_one_read_alone_is_the_same(provider: Provider) -> None:
    """A run reads only the provider that it needs: by name, and by every host it has anywhere."""
    assert get_provider(provider.name) == provider
    everywhere = (provider, *map(provider.in_region, provider.regions))
    for server in (server for place in everywhere for server in place.servers):
        found = provider_for_host(server.host.upper() + ".")
        assert found is not None
        assert server.host in {other.host for other in found.servers}


def test_domains_are_what_the_file_says() -> None:
    """The quick look at the file finds each domain of each table, once, with its program and its price."""
    tables = tomllib.loads(provider_data())
    everyone = [*tables.pop("mailboxes"), *tables.values()]
    told = [
        (domain, MailDomain(table.get("mail_program"), table.get("free_mail", True)))
        for table in everyone
        for domain in table.get("domains", ())
    ]
    assert len(told) == len(dict(told))
    assert mail_domains() == dict(told)
    assert len(told) > 50


def test_presets_and_other_mailboxes_are_told_apart() -> None:
    """A provider of mailboxes without a preset is not a preset."""
    assert "mailboxes" not in provider_names()
    assert get_provider("mailboxes") is None
    assert provider_for_address("hey.com") is None
    assert mail_domains()["hey.com"] == MailDomain("hey.desktop-webmail", free_mail=False)
    assert mail_domains()["orange.fr"] == MailDomain("orange.desktop-webmail")
    assert mail_domains()["gmail.com"] == MailDomain("gmail.desktop-webmail")
    assert not mail_domains()["fastmail.com"].free_mail


def test_no_other_module_knows_a_domain() -> None:
    """A provider's domain is written in its data file and nowhere else in the code."""
    package = Path(mailmerge.__file__).parent
    domains = re.compile("|".join(rf"\"{re.escape(domain)}\"" for domain in mail_domains()))
    found = {
        f"{path.relative_to(package)}: {match[0]}"
        for path in package.rglob("*.py")
        for match in domains.finditer(path.read_text("utf-8"))
    }
    assert found == set()


def test_refused_sign_ins_are_known_by_preset() -> None:
    """The words in which a provider refuses belong to its preset."""
    assert sign_in_refusals()["gmail"].startswith("534 5.7.9 ")
    assert all(find_provider(name).sign_in_refusal == text for name, text in sign_in_refusals().items())


@pytest.mark.parametrize("name", ["microsoft365", "gmail"])
def test_how_to_register_an_application_is_in_the_docs(name: str) -> None:
    """Six steps, the same in the page and in what `login` shows, with the provider's own page as source."""
    page = (Path(__file__).parents[2] / "docs" / "sign-in.md").read_text("utf-8")
    provider = find_provider(name)
    assert provider.oauth is not None
    assert len(provider.oauth_steps) == 6
    assert [step for step in (*provider.oauth_steps, provider.oauth.page) if step not in page] == []


def test_every_provider_of_tokens_says_where_and_how() -> None:
    """Addresses are https, and who may sign in so is told what to register."""
    with_tokens = [provider for provider in providers() if provider.oauth]
    assert {"gmail", "workspace", "outlook", "microsoft365", "yahoo", "fastmail", "zoho"} == {
        provider.name for provider in with_tokens
    }
    for provider in with_tokens:
        assert provider.oauth is not None
        places = (provider.oauth.authorize, provider.oauth.token, provider.oauth.page)
        assert all(place.startswith("https://") for place in places)
        assert provider.oauth.scopes
        assert provider.oauth_steps


@pytest.mark.skipif(not README.exists(), reason="needs the source tree")
def test_the_chinese_readme_has_the_servers_and_limits_of_the_presets():
    """Its table is what `mailmerge providers` says, and names every provider's steps by its preset."""
    row = r"^\| [^|]+ \| `([\w-]+)` \| ([\w.]+):(\d+) \| [^|]+ \| (\d+) \| (\d+) \|$"
    rows = re.findall(row, README.read_text("utf-8"), re.MULTILINE)
    assert [row[0] for row in rows] == ["qq", "163", "126", "exmail", "aliyun-qiye", "aliyun-mail"]
    for name, host, port, per_minute, per_day in rows:
        provider = find_provider(name)
        assert (provider.servers[0].host, provider.servers[0].port) == (host, int(port))
        assert list(map(str, provider.rates)) == [f"{per_minute}/m"]
        assert str(provider.quota) == f"{per_day}/d"
        assert provider.marks["quota"] == provider.marks["rates"] == "ours"  # as the text under it says
