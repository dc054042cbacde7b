"""What refusals mean, as data: the first rule that fits decides.

Words come before enhanced codes, enhanced codes before the phase, and the phase before the reply code's
first digit, because submission servers often answer 5yz for what passes and 4yz for what does not, and
because many of them answer only at RCPT what they think of the sender, of us or of our EHLO name. Words are
plain substrings of the case-folded text, or two of them close to each other, so that matching is linear in
the reply's length.

An enhanced code that is not in the table counts as its class where the class says enough (RFC 3463 section
3); the detail is never guessed.
"""

from __future__ import annotations

from itertools import chain

from msgspec import Struct

from mailmerge.model import Phase, Scope, Status
from mailmerge.suggest import login_command

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Meaning(Struct, frozen=True):
    """What a refusal means; the fields are those of `mailmerge.model.Outcome`."""

    scope: Scope
    status: Status
    reason: str
    retry_after: float | None = None
    slower: bool = False
    hint: str | None = None


class ReplyRule(Struct, frozen=True):
    """One line of the table: every condition that is given must hold, of *words* any one."""

    meaning: Meaning
    words: tuple[str, ...] = ()
    enhanced: tuple[str, ...] = ()
    """Enhanced codes; ``5.6.x`` stands for any detail."""
    codes: tuple[int, ...] = ()
    """Reply codes; 4 and 5 stand for any code of that class."""
    phases: tuple[Phase, ...] = ()
    near: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    """Whole words of which one must be close to any of the second: no list of sentences is ever complete."""


def _row(status: Status, reason: str, retry_after: float | None = None, hint: str | None = None) -> Meaning:
    return Meaning(Scope.ROW, status, reason, retry_after, hint=hint)


def _pause(reason: str, seconds: float, *, slower: bool = False, hint: str | None = None) -> Meaning:
    """Stop the account for *seconds*: the row was only the messenger."""
    return Meaning(Scope.ACCOUNT, Status.DEFERRED, reason, seconds, slower, hint)


def _reconnect(reason: str, seconds: float | None = None) -> Meaning:
    return Meaning(Scope.CONNECTION, Status.PENDING, reason, seconds)


def _stop(reason: str, hint: str) -> Meaning:
    """Stop at the first one: nothing changes until a person acts."""
    return Meaning(Scope.CONFIG, Status.PENDING, reason, hint=hint)


_QUOTA = _pause(
    "quota", DAY, hint="The account's sending limit is used up; run the same command again later."
)
_BLOCKED = _stop("blocked", "The provider has blocked the account: sign in on its website and unblock it.")
_SENDER = _stop(
    "sender",
    "Send from the address of the account itself, or let the provider verify this sender first; `from` and "
    "`aliases` of the account say what it may send as.",
)
_SENDER_CHECKED = _pause(
    "sender_check", MINUTE, hint="The server is still checking the sender's address (`from`)."
)
_RELAY = _stop(
    "relay",
    "The server forwards mail only for those who sign in: check `user`, and use a submission `port` (587 or "
    "465).",
)
_CLIENT = _stop(
    "client",
    "The server does not accept mail from this machine: sign in (`user`) at a submission `port` (587 or "
    "465), or let its operator allow this machine.",
)
_HELO = _stop("helo", "Set `helo` of the account to the full name of this machine, such as pc7.example.org.")
REFUSED_SIGN_IN = "Check the user name and the secret; many providers require an app password."
"""The hint where a reply says no more than that user and secret do not fit."""
_SIGN_IN = _stop("auth", REFUSED_SIGN_IN)
_CONNECTIONS = _pause(
    "connections", MINUTE, hint="Another program is using this account; we open only one session."
)
_AUTH_OFF = _stop(
    "auth", "SMTP AUTH is off for this mailbox or tenant: an administrator must turn it on, or use OAuth2."
)
_RECIPIENT = _row(Status.REJECTED, "recipient")
_SIZE = _row(Status.REJECTED, "size")
_CONTENT = _row(Status.REJECTED, "content")
_PROTOCOL = _row(Status.REJECTED, "protocol")
_DOMAIN = _row(
    Status.REJECTED,
    "domain",
    hint="The recipient's domain requires SPF, DKIM and DMARC to pass for the sender: fix the DNS records.",
)
_RECIPIENT_LIMIT = _row(Status.DEFERRED, "recipients")

_OF_RECIPIENTS = (
    "recipient address rejected",
    "resolver.rst",
    "for group",
    "to this group",
    "to this recipient",
    "to this mailbox",
    "to this user",
    "allowed-senders list",
)
"""Refusals that concern one recipient; Exchange's ``RESOLVER.RST`` protects single mailboxes and groups."""
_GREYLISTS = ("greylist", "graylist", "grey list", "gray list")

_TLS_FIRST = _stop(
    "tls",
    'The server wants TLS first: set `tls = "starttls"` (port 587) or `tls = "tls"` (port 465).',
)
_NOT_HERE = _stop(
    "auth",
    "The server takes no sign-in on this connection: check `port` and `tls`; a relay may want none "
    '(`auth = "none"`).',
)
_OTHER_WAY = _stop(
    "auth",
    "The server does not know this way of signing in: passwords may be off there. `mailmerge providers` "
    "says what the provider takes.",
)
_ON_THE_WEBSITE = _stop(
    "auth", "The provider wants you to sign in on its website first, and to confirm that it is you."
)
_DISABLED = _stop(
    "auth", "The account is disabled or locked: sign in on the provider's website and look why."
)
_NEW_PASSWORD = _stop("auth", "The password has run out: choose a new one on the provider's website.")

_SIGNING_IN: tuple[ReplyRule, ...] = (
    ReplyRule(
        _TLS_FIRST,
        words=(
            *("issue a starttls", "issue starttls", "starttls first", "starttls is required"),
            *("starttls required", "use starttls", "tls is required", "tls required", "requires tls"),
            *("encryption required", "encryption is required", "encryption needed", "must use tls"),
        ),
        codes=(5,),
        phases=(Phase.GREETING, Phase.EHLO, Phase.AUTH, Phase.MAIL),
    ),
    ReplyRule(_TLS_FIRST, words=("starttls",), codes=(523, 530, 538)),
    ReplyRule(_TLS_FIRST, enhanced=("5.7.10", "5.7.11"), codes=(523, 530, 538)),
    ReplyRule(_TLS_FIRST, codes=(523, 538)),
    ReplyRule(
        _ON_THE_WEBSITE,
        words=(
            "log in via your web browser",
            "web login required",
            "login via your web",
            "verify your account",
        ),
        phases=(Phase.AUTH,),
    ),
    ReplyRule(
        _NEW_PASSWORD,
        words=("password expired", "password has expired", "password is expired", "password transition"),
        phases=(Phase.AUTH,),
    ),
    ReplyRule(
        _DISABLED,
        near=(
            ("account", "mailbox", "user"),
            ("disabled", "suspended", "locked", "deactivated", "blocked", "inactive"),
        ),
        codes=(5,),
        phases=(Phase.AUTH,),
    ),
    ReplyRule(_DISABLED, enhanced=("5.7.13",), phases=(Phase.AUTH,)),
    ReplyRule(
        _pause(
            "auth_later", 10 * MINUTE, hint="Too many wrong sign-ins: wait ten minutes before the next one."
        ),
        words=(
            "too many bad auth",
            "too many failed",
            "too many invalid",
            "too many authentication failures",
        ),
        phases=(Phase.AUTH,),
    ),
    ReplyRule(
        _pause("auth_later", 10 * MINUTE, hint="Too many sign-ins: wait ten minutes before the next one."),
        words=("too many login attempts", "too much fail authentication"),
    ),
    ReplyRule(
        _pause("auth_later", 10 * MINUTE, hint="The server cannot check sign-ins now: try again later."),
        codes=(4,),
        phases=(Phase.AUTH,),
    ),
    ReplyRule(
        _stop("auth", "The provider requires an app password (account > security > 2-step verification)."),
        enhanced=("5.7.9",),
        codes=(534, 535),
    ),
    ReplyRule(
        _AUTH_OFF,
        words=(
            "smtpclientauthentication is disabled",
            "basic authentication is disabled",
            "basic authentication is not supported",
            "smtp auth disabled",
        ),
    ),
    ReplyRule(
        _stop(
            "auth",
            "Microsoft does not know this user with this password, or takes OAuth only: "
            f"{login_command('microsoft365')}",
        ),
        words=("user credentials were incorrect",),
    ),
    ReplyRule(
        _stop(
            "auth",
            "The organisation's security defaults forbid this sign-in: an administrator must allow it, or "
            "use OAuth.",
        ),
        words=("did not meet the criteria", "security defaults"),
        phases=(Phase.AUTH,),
    ),
    ReplyRule(_AUTH_OFF, enhanced=("5.7.139",)),
    # At Gmail 5.7.30 is about DKIM.
    ReplyRule(_AUTH_OFF, enhanced=("5.7.30",), phases=(Phase.AUTH,)),
    ReplyRule(
        _stop("auth", "Use the authorization code from the mailbox's SMTP settings, not the usual password."),
        words=("login fail", "authorization code", "authorized code", "授权码"),
        phases=(Phase.AUTH,),
    ),
    ReplyRule(_SIGN_IN, words=("smtp auth error limit",)),
    ReplyRule(_OTHER_WAY, enhanced=("5.7.4", "5.5.4"), codes=(504, 534), phases=(Phase.AUTH,)),
    ReplyRule(_OTHER_WAY, codes=(504,), phases=(Phase.AUTH,)),
    ReplyRule(_NOT_HERE, codes=(500, 502, 503), phases=(Phase.AUTH,)),
    ReplyRule(_SIGN_IN, codes=(5,), phases=(Phase.AUTH,)),
    ReplyRule(_SIGN_IN, enhanced=("5.7.8",), codes=(5,)),
)

_TOO_MUCH: tuple[ReplyRule, ...] = (
    ReplyRule(_pause("rate", 10 * MINUTE, slower=True), words=("peak smtp relay limit", "submission rate")),
    ReplyRule(
        _pause("quota", HOUR, hint=_QUOTA.hint),
        words=(
            "hourly limit",
            "hourly sending limit",
            "hourly quota",
            "messages per hour",
            "emails per hour",
        ),
    ),
    ReplyRule(
        _QUOTA,
        words=(
            "daily user sending limit",
            "daily sending limit",
            "daily smtp relay limit",
            "relay limit exceeded",
            "reached a limit for sending",
            "submissionquotaexceeded",
            "daily message quota",
            "daily sending quota",
            "monthly sending quota",
            "not enough sending quota",
            "maximum credits exceeded",
            "daily limit",
            "day limit",
            "mi:stc",
        ),
    ),
    ReplyRule(
        _pause("rate", 5.0, slower=True), words=("maximum sending rate exceeded", "throttling failure")
    ),
    ReplyRule(
        _row(Status.DEFERRED, "recipient_rate", HOUR),
        words=("receiving too quickly", "receiving mail too quickly"),
    ),
    ReplyRule(_row(Status.DEFERRED, "recipient_rate", HOUR), words=("receiving mail at a rate",)),
    ReplyRule(_pause("rate", 15 * MINUTE, slower=True), words=("unusual rate", "try again later, closing")),
    ReplyRule(
        _CONNECTIONS,
        words=("concurrent connections", "sender thread limit"),
    ),
    ReplyRule(_pause("rate", 15 * MINUTE), words=("mi:sfq",)),
    ReplyRule(_pause("rate", 30 * MINUTE), words=("hl:icc", "hl:ifc", "hl:rep", "hl:mep")),
    ReplyRule(_reconnect("connection_cap"), words=("mi:dmc", "rp:drc")),
    ReplyRule(
        _reconnect("connection_cap"),
        words=("too many messages", "messages per connection", "messages per session"),
        codes=(421, 450, 451, 452),
    ),
    ReplyRule(_pause("rate", HOUR, slower=True), words=("frequency limited",)),
)

# Postfix, and all that is built on it, says only at RCPT what it thinks of client, EHLO name, sender and
# relaying (smtpd_delay_reject); others do the same in words of their own.
_HELO_WORDS = (
    "helo command rejected",
    "ehlo command rejected",
    "invalid helo",
    "bad helo",
    "helo name",
    "ehlo name",
    "helo/ehlo",
    "helo argument",
    "invalid ehlo",
)
_SENDER_WORDS = (
    "sender address rejected",
    "sender address is not allowed",
    "sender address not allowed",
    "not owned by user",
    "not owned by auth",
    "sender verify failed",
    "sender verification failed",
    "sender rejected",
    "sender denied",
    "sender not allowed",
    "sender not authorized",
    "sender is not authorized",
    "not allowed to send as",
    "not authorized to send as",
    "not permitted to send as",
    "permissions to send as",
    "permission to send as",
    "permission to send mail for",
    "sender domain must exist",
    "domain of sender address",
    "domain not allowed to send",
    "not local sender",
    "invalid sender",
    "unverified sender",
    "badmailfrom",
    "your envelope sender",
    "not one of your addresses",
    "send from this header address",
    "sender does not match",
    "sender mismatch",
    "spoofing",
)
_RELAY_WORDS = (
    "relay access denied",
    "relaying access denied",
    "relaying denied",
    "relay denied",
    "relay not permitted",
    "relay not allowed",
    "relay is not permitted",
    "relay is not allowed",
    "relaying not permitted",
    "relaying not allowed",
    "relaying is not allowed",
    "relaying is prohibited",
    "relaying prohibited",
    "relay prohibited",
    "prohibited by administrator",
    "unable to relay",
    "cannot relay",
    "do not relay",
    "don't relay",
    "not allowed to relay",
    "not permitted to relay",
    "not authorized to relay",
    "allowed rcpthosts",
    "authentication is required",
    "authentication required",
    "authentication needed",
    "requires authentication",
    "must authenticate",
    "please authenticate",
    "must be authenticated",
    "was not authenticated",
    "user not authenticated",
)
_CLIENT_WORDS = (
    "client host rejected",
    "cannot find your hostname",
    "cannot find your reverse hostname",
    "ip name lookup failed",
    "no reverse dns",
    "reverse dns lookup failed",
    "permissions to submit to this server",
    "traffic not accepted from this ip",
)
_NOT_AUTHENTICATED = (
    *(f"5.7.{detail}" for detail in range(20, 28)),
    "5.7.30",
    "5.7.32",
    "5.7.40",
    "5.7.509",
    "5.7.515",
)

_WHO_WE_ARE: tuple[ReplyRule, ...] = (
    # What is said to be about the recipient is, whatever else it says.
    ReplyRule(_row(Status.DEFERRED, "greylist", 5 * MINUTE), words=_GREYLISTS, codes=(450, 451)),
    ReplyRule(_row(Status.DEFERRED, "refused"), words=_OF_RECIPIENTS, codes=(4,)),
    ReplyRule(_RECIPIENT, words=_OF_RECIPIENTS, codes=(5,)),
    ReplyRule(
        _BLOCKED, words=("unusual sending activity", "sender blocked", "main account unavailable", "hl:ihu")
    ),
    ReplyRule(_SENDER_CHECKED, words=("sender address rejected: unverified address: address verification",)),
    ReplyRule(_HELO, words=_HELO_WORDS),
    ReplyRule(
        _SENDER,
        words=(
            *_SENDER_WORDS,
            "must equal authorized user",
            "mail from address must be same",
            "relaying disallowed as",
            "sendasdenied",
            "conform with authentication",
            "does not match a verified sender",
            "email address is not verified",
            "dt:sum",
        ),
    ),
    ReplyRule(_DOMAIN, words=("dmarc",), codes=(5,)),
    # RFC 7372 sections 3.1 to 3.3; what Gmail and Outlook.com add to it.
    ReplyRule(_DOMAIN, enhanced=_NOT_AUTHENTICATED),
    ReplyRule(
        _pause(
            "blocklist",
            4 * HOUR,
            hint="The sending address is on a block list: contact its operator or your provider.",
        ),
        words=(
            "blocked using",
            "blocklist",
            "block list",
            "blacklist",
            "dnsbl",
            "spamhaus",
            "s3150",
            "hl:ipb",
        ),
    ),
    ReplyRule(_RELAY, words=_RELAY_WORDS),
    ReplyRule(_CLIENT, words=_CLIENT_WORDS),
    ReplyRule(
        _SENDER, words=("access denied",), codes=(554,), phases=(Phase.MAIL, Phase.DATA, Phase.CONTENT)
    ),
)

_ABOUT_THE_ROW: tuple[ReplyRule, ...] = (
    ReplyRule(_row(Status.DEFERRED, "content", 2 * MINUTE), words=("dt:spm",), codes=(4,)),
    ReplyRule(
        _CONTENT,
        words=(
            "dt:spm",
            "spam",
            "virus",
            "malware",
            "prohibited attachment",
            "blocked attachment",
            "file type",
        ),
        codes=(5,),
        phases=(Phase.DATA, Phase.CONTENT),
    ),
    ReplyRule(
        _RECIPIENT,
        words=(
            "user unknown",
            "unknown user",
            "no such user",
            "invalid rcptto",
            "mailbox not found",
            "honeypot",
        ),
        codes=(5,),
        phases=(Phase.RCPT, Phase.CONTENT),
    ),
    ReplyRule(
        _row(Status.DEFERRED, "greylist", 5 * MINUTE),
        words=("try again",),
        codes=(450, 451),
    ),
    ReplyRule(_reconnect("errors"), words=("too many errors",), codes=(421,)),
)

# The same as `_WHO_WE_ARE` in words that nobody has collected: what is meant, and that it is not wanted.
_UNWANTED = (
    "not allowed",
    "not permitted",
    "not authorized",
    "not authorised",
    "not owned",
    "not verified",
    "unverified",
    "not enabled",
    "not a valid",
    "is not an",
    "denied",
    "rejected",
    "refused",
    "prohibited",
    "disallowed",
    "disabled",
    "forbidden",
    "blocked",
    "invalid",
    "mismatch",
    "does not match",
    "cannot",
    "can not",
    "can't",
    "unable",
    "do not",
    "don't",
    "does not",
    "will not",
    "won't",
)
_BEFORE_CONTENT = (Phase.MAIL, Phase.RCPT)
_ABOUT_US_SOMEHOW: tuple[ReplyRule, ...] = (
    ReplyRule(
        _HELO,
        near=(
            ("helo", "ehlo"),
            (*_UNWANTED, "should be", "must be", "fqdn", "fully qualified", "fully-qualified"),
        ),
        phases=_BEFORE_CONTENT,
    ),
    ReplyRule(
        _RELAY, near=(("relay", "relaying", "relayed", "open relay"), _UNWANTED), phases=_BEFORE_CONTENT
    ),
    ReplyRule(
        _RELAY,
        words=("auth first", "authenticate first", "log in first", "login first", "not logged in"),
        phases=_BEFORE_CONTENT,
    ),
    ReplyRule(
        _SENDER,
        near=(
            (
                "sender address",
                "sender domain",
                "from address",
                "from domain",
                "mail from address",
                "mail from domain",
                "envelope from",
                "return path",
                "send from",
                "send as",
                "send mail as",
            ),
            _UNWANTED,
        ),
        phases=_BEFORE_CONTENT,
    ),
    ReplyRule(
        _CLIENT, near=(("client host", "your ip", "your ip address"), _UNWANTED), phases=_BEFORE_CONTENT
    ),
)

_ENHANCED: tuple[ReplyRule, ...] = (
    ReplyRule(_pause("rate", 15 * MINUTE, slower=True), enhanced=("4.7.0", "4.7.28"), codes=(421,)),
    ReplyRule(_QUOTA, enhanced=("5.4.5",)),
    ReplyRule(_BLOCKED, enhanced=("5.4.6",), codes=(550,), phases=(Phase.MAIL, Phase.DATA, Phase.CONTENT)),
    ReplyRule(_BLOCKED, enhanced=("5.1.8",), codes=(554,)),
    ReplyRule(_SENDER, enhanced=("5.7.60", "5.1.7", "5.1.8")),
    ReplyRule(_RECIPIENT, enhanced=("5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1")),
    ReplyRule(_row(Status.REJECTED, "full"), enhanced=("5.2.2",)),
    ReplyRule(_row(Status.DEFERRED, "full", 6 * HOUR), enhanced=("4.2.2",)),
    ReplyRule(_SIZE, enhanced=("5.3.4", "5.2.3")),
    ReplyRule(_CONTENT, enhanced=("5.6.x",)),
    ReplyRule(_CONTENT, enhanced=("5.7.0",), codes=(552,)),
    ReplyRule(_RECIPIENT_LIMIT, enhanced=("4.5.3",)),
    ReplyRule(_reconnect("storage", 10 * MINUTE), enhanced=("4.3.1",)),
    ReplyRule(_reconnect("server"), enhanced=("4.3.x", "4.4.5"), codes=(421, 450, 451)),
    ReplyRule(_RECIPIENT, enhanced=("5.1.x",), phases=(Phase.RCPT, Phase.CONTENT)),
)

_CODES: tuple[ReplyRule, ...] = (
    ReplyRule(_reconnect("server"), codes=(421,)),
    ReplyRule(
        _CONNECTIONS,
        codes=(432,),
    ),
    ReplyRule(_SENDER, codes=(436,)),
    ReplyRule(_RECIPIENT_LIMIT, codes=(452,), phases=(Phase.RCPT,)),
    ReplyRule(_reconnect("storage", 10 * MINUTE), codes=(452,)),
    ReplyRule(
        _stop(
            "auth", "The server takes mail only after a sign-in: set `user`, and how it signs in (`auth`)."
        ),
        codes=(530,),
    ),
    ReplyRule(_SIGN_IN, codes=(534, 535, 538)),
    ReplyRule(_row(Status.REJECTED, "full"), codes=(552,), phases=(Phase.RCPT,)),
    ReplyRule(_SIZE, codes=(552, 557)),
    ReplyRule(_RECIPIENT, codes=(559, 561)),
    ReplyRule(_RECIPIENT, codes=(551, 553), phases=(Phase.RCPT,)),
    # The sender is the same in every row, so what is refused at MAIL is about us.
    ReplyRule(_SENDER, codes=(501,), phases=(Phase.MAIL,)),
    ReplyRule(Meaning(Scope.CONNECTION, Status.REJECTED, "protocol"), codes=(503,)),
    ReplyRule(_PROTOCOL, codes=(500, 501, 502, 504, 555)),
    ReplyRule(_SENDER, codes=(5,), phases=(Phase.MAIL,)),
    ReplyRule(_reconnect("server"), codes=(4,), phases=(Phase.MAIL,)),
)

ABOUT_US = frozenset({"sender", "relay", "client", "helo", "auth", "blocked", "blocklist", "tls"})
"""Reasons that are no recipient's. With scope `Scope.ROW` they are a suspicion: see `suspected`."""
DELAYED = frozenset({"sender", "relay", "client", "helo"})
"""Those that servers give at RCPT, though recipients have nothing to do with them."""


def suspected(meaning: Meaning) -> Meaning:
    """Return what a refusal about us is where it may be about the recipient all the same: its row waits."""
    return Meaning(Scope.ROW, Status.DEFERRED, meaning.reason, hint=meaning.hint)


NAMES_THE_SENDER = _SENDER
"""What a refusal means that names our sender and none of the row's recipients."""

RULES: tuple[ReplyRule, ...] = tuple(
    chain(_SIGNING_IN, _TOO_MUCH, _WHO_WE_ARE, _ABOUT_THE_ROW, _ABOUT_US_SOMEHOW, _ENHANCED, _CODES)
)
