"""What refusals mean, as data: the first rule that matches decides.

Words come before enhanced codes, enhanced codes before the phase, and the phase before the reply code's first
digit, because submission servers often answer 5yz to temporary problems and 4yz to permanent ones, and
because many of them refuse the sender, the client or the EHLO name only at RCPT. Words are plain substrings
of the case-folded text, or two of them close to each other, so matching is linear in the reply's length.

An enhanced code that is not in the table counts as its class if the class is clear enough (RFC 3463 section
3); the detail is never guessed.
"""

from __future__ import annotations

from itertools import chain

from mailmerge.model import Phase, Scope, Status
from mailmerge.rulebook import rules_of
from mailmerge.smtp.reply_languages import LANGUAGES, RECIPIENTS, SIGN_IN
from mailmerge.smtp.reply_rule import DAY, HOUR, MINUTE, Meaning, ReplyRule, pause, reconnect, row, stop
from mailmerge.smtp.sign_in_rules import SIGN_IN_REFUSED, SIGNING_IN

_QUOTA = pause("quota", DAY, hint="The account's sending limit is used up; run the same command again later.")
_BLOCKED = stop("blocked", "The provider has blocked the account: sign in on its website and unblock it.")
_SENDER = stop(
    "sender",
    "Send from the account's own address, or let the provider verify this sender first; `from` and "
    "`aliases` in the account list the addresses that it may send as.",
)
_SENDER_CHECKED = pause(
    "sender_check", MINUTE, hint="The server is still checking the sender's address (`from`)."
)
_RELAY = stop(
    "relay",
    "The server relays mail only after a sign-in: check `user`, and use a submission `port` (587 or 465).",
)
_CLIENT = stop(
    "client",
    "The server does not accept mail from this machine: sign in (`user`) on a submission `port` (587 or "
    "465), or ask its administrator to allow this machine.",
)
_HELO = stop("helo", "Set `helo` in the account to the full name of this machine, such as pc7.example.org.")
_CONNECTIONS = pause(
    "connections", MINUTE, hint="Another program is using this account; we open only one session."
)
_RECIPIENT = row(Status.REJECTED, "recipient")
_SIZE = row(Status.REJECTED, "size")
_CONTENT = row(Status.REJECTED, "content")
_PROTOCOL = row(Status.REJECTED, "protocol")
_DOMAIN = row(
    Status.REJECTED,
    "domain",
    hint="The recipient's domain requires SPF, DKIM and DMARC to pass for the sender: fix the DNS records.",
)
_RECIPIENT_LIMIT = row(Status.DEFERRED, "recipients")

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

_TOO_MUCH: tuple[ReplyRule, ...] = (
    ReplyRule(pause("rate", 10 * MINUTE, slower=True), words=("peak smtp relay limit", "submission rate")),
    ReplyRule(
        pause("quota", HOUR, hint=_QUOTA.hint),
        words=(
            "hourly limit",
            "hourly sending limit",
            "hourly quota",
            "messages per hour",
            "emails per hour",
            "recipients per hour",
            "defers and failures per hour",
        ),
    ),
    ReplyRule(pause("quota", HOUR, hint=_QUOTA.hint), near=(("limit exceeded",), ("per hour", "hourly"))),
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
            "recipients per day",
            "not enough sending quota",
            "maximum credits exceeded",
            "daily limit",
            "day limit",
            "mi:stc",
        ),
    ),
    ReplyRule(pause("rate", 5.0, slower=True), words=("maximum sending rate exceeded", "throttling failure")),
    ReplyRule(
        row(Status.DEFERRED, "recipient_rate", HOUR),
        words=("receiving too quickly", "receiving mail too quickly"),
    ),
    ReplyRule(row(Status.DEFERRED, "recipient_rate", HOUR), words=("receiving mail at a rate",)),
    ReplyRule(pause("rate", 15 * MINUTE, slower=True), words=("unusual rate", "try again later, closing")),
    ReplyRule(
        _CONNECTIONS,
        words=("concurrent connections", "sender thread limit"),
    ),
    ReplyRule(pause("rate", 15 * MINUTE), words=("mi:sfq",)),
    ReplyRule(pause("rate", 30 * MINUTE), words=("hl:icc", "hl:ifc", "hl:rep", "hl:mep")),
    ReplyRule(reconnect("connection_cap"), words=("mi:dmc", "rp:drc")),
    ReplyRule(
        reconnect("connection_cap"),
        words=("too many messages", "messages per connection", "messages per session"),
        codes=(421, 450, 451, 452),
    ),
    ReplyRule(pause("rate", HOUR, slower=True), words=("frequency limited",)),
    ReplyRule(
        pause("rate", 15 * MINUTE, slower=True),
        words=("rate limit exceeded", "ratelimit exceeded"),
        phases=(Phase.MAIL,),
    ),
)

# Postfix, and everything built on it, refuses the client, EHLO name, sender and relaying only at RCPT
# (smtpd_delay_reject); others do the same with other words.
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
    "unauthorized sender",
    "unauthorised sender",
    "use of sender address",
    "must match auth",
    "authenticated user do not match",
    "unconfigured sending domain",
    "sending from unregistered domain",
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
    "auth is required",
    "use smtp auth",
    "unauthenticated sender",
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
    "unauthorized ip address",
    "dns ptr",
    "your access to submit messages",
)
_NOT_AUTHENTICATED = (
    *(f"5.7.{detail}" for detail in range(20, 28)),
    "5.7.29",
    "5.7.30",
    "5.7.31",
    "5.7.32",
    "5.7.40",
    "5.7.509",
    "5.7.515",
)
_AS_RECEIVERS_SAY = tuple(
    ReplyRule(
        row(status, "domain", wait, rule.hint), rule.words, tuple(f"{kind}.{code}" for code in rule.codes)
    )
    for rule in rules_of("refusal")
    for kind, status, wait in ((5, Status.REJECTED, None), (4, Status.DEFERRED, HOUR))
)
"""What Gmail and Outlook.com refuse, or delay (4yz), for lack of SPF, DKIM, DMARC and similar."""

_WHO_WE_ARE: tuple[ReplyRule, ...] = (
    # A reply that names the recipient is about the recipient, whatever else it contains.
    ReplyRule(row(Status.DEFERRED, "greylist", 5 * MINUTE), words=_GREYLISTS, codes=(450, 451)),
    ReplyRule(row(Status.DEFERRED, "refused"), words=_OF_RECIPIENTS, codes=(4,)),
    ReplyRule(_RECIPIENT, words=_OF_RECIPIENTS, codes=(5,)),
    ReplyRule(
        _BLOCKED,
        words=(
            "unusual sending activity",
            "sender blocked",
            "main account unavailable",
            "hl:ihu",
            "sending paused for this account",
            "tenant has exceeded threshold",
            "account is not yet activated",
        ),
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
    *_AS_RECEIVERS_SAY,
    ReplyRule(_DOMAIN, words=("dmarc",), codes=(5,)),
    # RFC 7372 sections 3.1 to 3.3; what Gmail and Outlook.com add to it.
    ReplyRule(_DOMAIN, enhanced=_NOT_AUTHENTICATED),
    ReplyRule(
        pause(
            "blocklist",
            4 * HOUR,
            hint="The sending IP address is on a block list: contact the list's operator or your provider.",
        ),
        words=(
            "blocked using",
            "blocklist",
            "block list",
            "blacklist",
            "dnsbl",
            "spamhaus",
            "ipcheck.proofpoint.com",
            "s3150",
            "hl:ipb",
        ),
    ),
    ReplyRule(_RELAY, words=_RELAY_WORDS),
    ReplyRule(_RELAY, words=("not authenticated to send",), codes=(550,)),
    ReplyRule(_CLIENT, words=_CLIENT_WORDS),
    ReplyRule(
        _SENDER, words=("access denied",), codes=(554,), phases=(Phase.MAIL, Phase.DATA, Phase.CONTENT)
    ),
)

_ABOUT_THE_ROW: tuple[ReplyRule, ...] = (
    ReplyRule(row(Status.DEFERRED, "content", 2 * MINUTE), words=("dt:spm",), codes=(4,)),
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
        row(Status.DEFERRED, "greylist", 5 * MINUTE),
        words=("try again",),
        codes=(450, 451),
    ),
    ReplyRule(reconnect("errors"), words=("too many errors",), codes=(421,)),
)

# The same as `_WHO_WE_ARE` in wordings that are not collected: what is meant, and words that refuse it.
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

# Servers with texts in the language of their administrator, where English words decide nothing.
_ABOUT_US_ELSEWHERE: tuple[ReplyRule, ...] = (
    ReplyRule(_RELAY, words=SIGN_IN, phases=_BEFORE_CONTENT),
    *(
        ReplyRule(_RELAY, near=(relaying, refused), phases=_BEFORE_CONTENT)
        for _, relaying, refused in LANGUAGES.values()
    ),
    # As in English: what also names the recipient is about the recipient.
    *(
        ReplyRule(
            row(status, "refused"),
            near=(
                tuple(chain.from_iterable(senders for senders, _, _ in LANGUAGES.values())),
                RECIPIENTS,
            ),
            codes=(kind,),
            phases=(Phase.RCPT, Phase.CONTENT),
        )
        for kind, status in ((5, Status.REJECTED), (4, Status.DEFERRED))
    ),
    *(
        ReplyRule(_SENDER, near=(senders, refused), phases=(*_BEFORE_CONTENT, Phase.CONTENT))
        for senders, _, refused in LANGUAGES.values()
    ),
)

_ENHANCED: tuple[ReplyRule, ...] = (
    ReplyRule(pause("rate", 15 * MINUTE, slower=True), enhanced=("4.7.0", "4.7.28"), codes=(421,)),
    ReplyRule(_QUOTA, enhanced=("5.4.5",)),
    ReplyRule(_BLOCKED, enhanced=("5.4.6",), codes=(550,), phases=(Phase.MAIL, Phase.DATA, Phase.CONTENT)),
    ReplyRule(_BLOCKED, enhanced=("5.1.8",), codes=(554,)),
    ReplyRule(_SENDER, enhanced=("5.7.60", "5.1.7", "5.1.8")),
    ReplyRule(_RECIPIENT, enhanced=("5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1")),
    ReplyRule(row(Status.REJECTED, "full"), enhanced=("5.2.2",)),
    ReplyRule(row(Status.DEFERRED, "full", 6 * HOUR), enhanced=("4.2.2",)),
    ReplyRule(_SIZE, enhanced=("5.3.4", "5.2.3")),
    ReplyRule(_CONTENT, enhanced=("5.6.x",)),
    ReplyRule(_CONTENT, enhanced=("5.7.0",), codes=(552,)),
    ReplyRule(_RECIPIENT_LIMIT, enhanced=("4.5.3",)),
    ReplyRule(_PROTOCOL, enhanced=("5.5.1",), phases=(Phase.DATA,)),
    ReplyRule(reconnect("storage", 10 * MINUTE), enhanced=("4.3.1",)),
    ReplyRule(reconnect("server"), enhanced=("4.3.x", "4.4.5"), codes=(421, 450, 451)),
    ReplyRule(_RECIPIENT, enhanced=("5.1.x",), phases=(Phase.RCPT, Phase.CONTENT)),
)

_CODES: tuple[ReplyRule, ...] = (
    ReplyRule(reconnect("server"), codes=(421,)),
    ReplyRule(
        _CONNECTIONS,
        codes=(432,),
    ),
    ReplyRule(_SENDER, codes=(436,)),
    ReplyRule(_RECIPIENT_LIMIT, codes=(452,), phases=(Phase.RCPT,)),
    ReplyRule(reconnect("storage", 10 * MINUTE), codes=(452,)),
    ReplyRule(
        stop("auth", "The server accepts mail only after a sign-in: set `user` and `auth`."),
        codes=(530,),
    ),
    ReplyRule(SIGN_IN_REFUSED, codes=(526, 534, 535, 538)),
    ReplyRule(row(Status.REJECTED, "full"), codes=(552,), phases=(Phase.RCPT,)),
    ReplyRule(_SIZE, codes=(552, 557)),
    ReplyRule(_RECIPIENT, codes=(559, 561)),
    ReplyRule(_RECIPIENT, codes=(551, 553), phases=(Phase.RCPT,)),
    # The sender is the same in every row, so what is refused at MAIL is about us.
    ReplyRule(_SENDER, codes=(501,), phases=(Phase.MAIL,)),
    ReplyRule(Meaning(Scope.CONNECTION, Status.REJECTED, "protocol"), codes=(503,)),
    ReplyRule(_PROTOCOL, codes=(500, 501, 502, 504, 555)),
    ReplyRule(_SENDER, codes=(5,), phases=(Phase.MAIL,)),
    ReplyRule(reconnect("server"), codes=(4,), phases=(Phase.MAIL,)),
)

ABOUT_US = frozenset({"sender", "relay", "client", "helo", "auth", "blocked", "blocklist", "tls"})
"""Reasons that do not concern a recipient. With scope `Scope.ROW` they are a suspicion: see `suspected`."""
DELAYED = frozenset({"sender", "relay", "client", "helo"})
"""Those that servers give at RCPT although they have nothing to do with the recipient."""


def suspected(meaning: Meaning) -> Meaning:
    """Return a refusal about us as one that may still be about the recipient: its row is deferred."""
    return Meaning(Scope.ROW, Status.DEFERRED, meaning.reason, hint=meaning.hint)


NAMES_THE_SENDER = _SENDER
"""The meaning of a refusal that names our sender and none of the row's recipients."""

RULES: tuple[ReplyRule, ...] = tuple(
    chain(
        SIGNING_IN,
        _TOO_MUCH,
        _WHO_WE_ARE,
        _ABOUT_THE_ROW,
        _ABOUT_US_SOMEHOW,
        _ABOUT_US_ELSEWHERE,
        _ENHANCED,
        _CODES,
    )
)
