"""``check``: the plan over a throw-away ledger, and on request what other machines answer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.addresses import AddressError, parse_address_list
from mailmerge.campaign.connect import connection_factory, find_account, hand_over
from mailmerge.campaign.opening import Access, open_run
from mailmerge.campaign.planning import Planning, once_more
from mailmerge.campaign.preflight import examine
from mailmerge.campaign.repeats import written_before
from mailmerge.check.message_view import Finding, diagnostic
from mailmerge.check.rules.deliverability import longer_than_a_day, unsigned_unsubscribe
from mailmerge.clock import SystemClock
from mailmerge.config.option_docs import SCHEMA_FILE, is_current
from mailmerge.errors import AuthError, CampaignFileError, RowError, SessionError, TlsError
from mailmerge.folders import read_plain
from mailmerge.model import TO_BE_SENT, Envelope, Message, Phase, Place, Scope, Status
from mailmerge.recipients.list_survey import typed_rows
from mailmerge.rulebook import old, rulebook
from mailmerge.suggest import word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from mailmerge.addresses import Address
    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.plan import Plan
    from mailmerge.campaign.standing import Standing
    from mailmerge.check.online import LinkCheck, Lookup
    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.errors import MailmergeError
    from mailmerge.options import Jobs
    from mailmerge.smtp.connection import Connection

_LARGEST_SCHEMA = 1_000_000
"""Octets."""
_ROWS_FOR_LINKS = 200
"""How many messages are searched for links to try."""


class OnlineChecks(Struct, frozen=True):
    """What ``check`` may ask other machines; nothing by default."""

    lookup: Lookup | None = None
    """Ask the DNS about the domains of sender and recipients."""
    links: LinkCheck | None = None
    """Try the links."""


@once_more
def check(
    definition: Definition,
    *,
    progress: Callable[[int], None] = lambda _rows: None,
    online: OnlineChecks | None = None,
    jobs: Jobs = 1,
    clock: Clock | None = None,
) -> Plan:
    """Render every row and collect all problems; without *online*, no socket is opened.

    *clock* is used to find out how old the rules of others are that this version has.

    Raises:
        ListError: the list cannot be read.
        TemplateError: templates that do not compile.

    """
    account, unusable = known_account(definition)
    with open_run(definition, Access.COPY) as opened:
        ledger, recipients = opened.ledger, opened.open_list()

        planned = opened.plan(Planning(definition, recipients, account), progress, jobs)
        try:
            plan, standing = examine(definition, ledger, planned, account=account)
        except CampaignFileError as error:
            if account is None or error.code != "C461":
                raise
            # The rest can be reported anyway.
            plan, standing = examine(definition, ledger, planned)
            plan.problems.add(error.diagnostics)
        about = [unusable] if unusable else []
        if account is not None:
            about += _about_account(account, plan, definition)
        plan.problems.add(diagnostic(finding) for finding in about)
        if online and online.lookup:
            _ask_dns(plan, standing, online.lookup, account)
        known = written_before(opened, standing.due(SystemClock().now()))
        aged = _aged(account, (clock or SystemClock()).now())
        plan = replace(
            plan,
            to_send=_due(plan, standing),
            notices=(*plan.notices, *known, *aged, *_old_schema(definition)),
        )
    if online and online.links:
        found = online.links.look(_links(definition))
        plan.problems.add(diagnostic(finding) for finding in found)
    return plan


def _about_account(account: Account, plan: Plan, definition: Definition) -> Iterator[Finding]:
    """Yield what the account means for this campaign: its quota, its return path, what its server signs."""
    waiting = sum(plan.counts[status] for status in TO_BE_SENT)
    yield from longer_than_a_day(waiting, account.quota)
    yield from _envelope_sender(account)
    if account.preset is not None and not account.dkim and _one_click(definition):
        yield from unsigned_unsubscribe(account.preset)


def _due(plan: Plan, standing: Standing) -> int:
    """Count the messages that would be sent now."""
    if not plan.counts[Status.DEFERRED]:
        return plan.counts[Status.PENDING]
    return sum(1 for _ in standing.due(SystemClock().now()))


def _aged(account: Account | None, now: datetime) -> Iterator[str]:
    """Yield one line if the rules of others were checked so many days ago that they may have changed."""
    days = [rule.checked for rule in rulebook().values()]
    if account is not None and account.preset is not None:
        days.append(account.preset.checked)
    if late := old(days, now.date()):
        ago = (now.date() - late[0]).days
        yield (
            f"What this version knows about providers' rules, limits and laws was last checked on "
            f"{late[0]}, {ago} days ago: a newer version may know more."
        )


def _old_schema(definition: Definition) -> Iterator[str]:
    """Yield one line if the schema by which editors check campaign.toml is of another version."""
    if definition.file.path is None:
        return
    path = definition.file.path.parent / SCHEMA_FILE
    try:
        content = read_plain(path, _LARGEST_SCHEMA)
    except OSError:  # there is none, as where no editor needs it
        return
    if not is_current(content):
        command = f"mailmerge schema > {word(str(path))}"
        yield f"{SCHEMA_FILE}, by which editors check campaign.toml, is of another version: {command}"


def known_account(definition: Definition) -> tuple[Account | None, Finding | None]:
    """Return the campaign's account if this machine knows it, for its limits; never asks for a secret."""
    try:
        account = find_account(definition)
    except CampaignFileError as error:
        if definition.file.account is None:
            return None, None
        place = definition.file.places.get("account", Place())
        hint = error.hint or "sending needs it"
        return None, Finding("C220", f"the account cannot be used here: {error.message}", hint, place)
    return account, None


def _envelope_sender(account: Account) -> Iterator[Finding]:
    """Yield a finding for a return path that a mailbox provider would not accept."""
    path = account.return_path
    own = account.from_.address if account.from_ else None
    if path is None or account.any_from or account.preset is None or (own and path == own):
        return
    yield Finding(
        "C221",
        f"`return_path` is {path}: {account.preset.title} requires the account's own address",
        "leave it out, unless the provider documents otherwise",
    )


def _one_click(definition: Definition) -> bool:
    """Whether the messages have the headers of one-click unsubscribing (RFC 8058)."""
    message = definition.file.message
    headers = {name.lower() for name in message.headers}
    return "list-unsubscribe-post" in headers or any("https:" in way for way in message.unsubscribe)


def _ask_dns(plan: Plan, standing: Standing, lookup: Lookup, account: Account | None) -> None:
    from mailmerge.check.dkim_record import key_record
    from mailmerge.check.online import recipient_domains
    from mailmerge.check.sender_domain import sender_domain
    from mailmerge.message.dkim_keys import public_record

    domain = plan.sender.rpartition("@")[2].rstrip(">").lower()
    if domain and "{" not in domain:
        path = account.return_path.domain if account and account.return_path else None
        found = sender_domain(domain, lookup, return_path=path, signers=_signers(account, domain))
        plan.problems.add(diagnostic(finding) for finding in found)
    for key in account.dkim if account else ():
        signer = key.domain or domain
        if signer and "{" not in signer:
            name = f"{key.selector}._domainkey.{signer}"
            plan.problems.add(map(diagnostic, key_record(name, public_record(key), lookup)))
    rows: dict[str, list[int]] = {}
    for result in standing.results():
        if result.status is Status.PENDING and result.row is not None:
            rows.setdefault(result.address.rpartition("@")[2].lower(), []).append(result.row)
    for finding, numbers in recipient_domains(rows, lookup):
        plan.problems.add(diagnostic(finding, row=row) for row in numbers)


def _signers(account: Account | None, domain: str) -> tuple[str, ...]:
    """Return the domains known to sign: our own keys', and a mailbox provider's for its addresses."""
    if account is None:
        return ()
    ours = tuple([(key.domain or domain).lower() for key in account.dkim])
    known = account.preset is not None and domain in account.preset.domains
    return (*ours, domain) if known else ours


def _links(definition: Definition) -> Iterator[str]:
    """Yield the different links of the first messages, except those that unsubscribe somebody."""
    from mailmerge.check.online import MOST_LINKS
    from mailmerge.check.rules.links import all_links

    recipients = definition.open_list()
    composer = definition.composer(recipients)
    seen: set[str] = set()
    for number, recipient in enumerate(typed_rows(recipients, composer.renderer.used_names)):
        if number >= _ROWS_FOR_LINKS:
            return
        try:
            if not composer.selects(recipient):
                continue
            rendered = composer.render(recipient)
        except RowError:
            continue
        for link in all_links(rendered):
            if link not in seen:
                seen.add(link)
                yield link
                if len(seen) >= MOST_LINKS:
                    return


class SignIn(Struct, frozen=True):
    """How far a connection got: the steps that succeeded, and the error that ended it."""

    account: Account
    steps: tuple[str, ...]
    error: MailmergeError | None = None


def try_sign_in(
    definition: Definition, account: Account, *, prompt: Callable[[str], str] | None = None
) -> SignIn:
    """Connect, secure and sign in, ask whether the sender may send, hand nothing over, and disconnect.

    Raises:
        AuthError: no secret was found.

    """
    account = replace(account, pipeline="off")
    connection = connection_factory(account, definition.environment, prompt=prompt)()
    steps = [f"connected to {account.host}, port {account.port}"]
    if account.tls != "none":
        steps.append("TLS is established, and the certificate is valid")
    if account.signs_in:
        steps.append(f"signed in as {account.user}" if account.user else "signed in with the certificate")
    try:
        connection.open()
        if until := connection.certificate_until:
            steps[1] = f"TLS is established, and the certificate is valid until {until:%d %B %Y}"
    except SessionError as error:
        reached = 1 if isinstance(error, TlsError) else len(steps) - 1 if isinstance(error, AuthError) else 0
        return SignIn(account, tuple(steps[:reached]), error)
    if size := connection.max_size:
        steps.append(f"the server accepts messages of up to {size:,} octets")
    try:
        if sender := _envelope_sender_of(definition, account):
            steps.append(_ask_about(connection, sender))
    except SessionError as error:
        return SignIn(account, tuple(steps), error)
    finally:
        connection.close()
    return SignIn(account, tuple(steps))


def _envelope_sender_of(definition: Definition, account: Account) -> Address | None:
    """Return the address that MAIL FROM will have; None: it differs from row to row."""
    if account.return_path:
        return account.return_path
    named = definition.file.message.from_
    if named:
        with contextlib.suppress(AddressError):
            return parse_address_list(named)[0].address
        return None
    return account.from_.address if account.from_ else None


def _ask_about(connection: Connection, sender: Address) -> str:
    """Send MAIL and RCPT, both with the sender's address, and RSET; return a sentence with the result.

    Many servers only reveal at RCPT what they think of a sender or of this machine.

    Raises:
        SessionError: the server refuses the sender, or us.

    """
    asked = Message("", "", 0, Envelope(sender, (sender,)), ())
    outcome = hand_over(connection, asked)
    if outcome.reply is None:
        return f"MAIL and RCPT: {sender} may send"
    if outcome.scope is Scope.CONFIG:
        raise AuthError(f"the server refused: {outcome.reply}", code="S607", hint=outcome.hint)
    if outcome.phase is Phase.RCPT:
        return f"MAIL: {sender} may send; mail to that address itself gets {outcome.reply}"
    return f"MAIL: the server does not accept mail now: {outcome.reply}"
