"""Refusals of sign-ins, and what to do about them: the first rules that are tried."""

from __future__ import annotations

from typing import Final

from mailmerge.model import Phase
from mailmerge.smtp.reply_rule import MINUTE, ReplyRule, pause, stop
from mailmerge.suggest import login_command

REFUSED_SIGN_IN = "Check the user name and the secret; many providers require an app password."
"""The hint for a reply that only says that user and secret do not match."""
SIGN_IN_REFUSED = stop("auth", REFUSED_SIGN_IN)
_AUTH_OFF = stop(
    "auth", "SMTP AUTH is off for this mailbox or tenant: an administrator must turn it on, or use OAuth2."
)
_TLS_FIRST = stop(
    "tls",
    'The server requires TLS first: set `tls = "starttls"` (port 587) or `tls = "tls"` (port 465).',
)
_NOT_HERE = stop(
    "auth",
    "The server does not allow sign-in on this connection: check `port` and `tls`; a relay may not need it "
    '(`auth = "none"`).',
)
_OTHER_WAY = stop(
    "auth",
    "The server does not support this sign-in method: passwords may be off there. `mailmerge providers` "
    "shows what the provider accepts.",
)
_ON_THE_WEBSITE = stop(
    "auth", "The provider requires you to sign in on its website first, and to confirm that it is you."
)
_DISABLED = stop("auth", "The account is disabled or locked: sign in on the provider's website to see why.")
_NEW_PASSWORD = stop("auth", "The password has expired: choose a new one on the provider's website.")

SIGNING_IN: Final[tuple[ReplyRule, ...]] = (
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
        stop(
            "auth",
            "Yahoo says this of any wrong password: use an app password, and wait ten minutes before you try "
            "again.",
        ),
        words=("#auth005",),
        phases=(Phase.AUTH,),
    ),
    ReplyRule(
        pause(
            "auth_later", 10 * MINUTE, hint="Too many failed sign-ins: wait ten minutes before the next one."
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
        pause("auth_later", 10 * MINUTE, hint="Too many sign-ins: wait ten minutes before the next one."),
        words=("too many login attempts", "too much fail authentication"),
    ),
    ReplyRule(
        pause("auth_later", 10 * MINUTE, hint="The server cannot check sign-ins now: try again later."),
        codes=(4,),
        phases=(Phase.AUTH,),
    ),
    ReplyRule(
        stop("auth", "The provider requires an app password (account > security > 2-step verification)."),
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
        stop(
            "auth",
            "Microsoft does not recognise this user and password, or only accepts OAuth: "
            f"{login_command('microsoft365')}",
        ),
        words=("user credentials were incorrect",),
    ),
    ReplyRule(
        stop(
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
        stop("auth", "Use the authorization code from the mailbox's SMTP settings, not the usual password."),
        words=("login fail", "authorization code", "authorized code", "授权码"),
        phases=(Phase.AUTH,),
    ),
    ReplyRule(SIGN_IN_REFUSED, words=("smtp auth error limit",)),
    ReplyRule(_OTHER_WAY, enhanced=("5.7.4", "5.5.4"), codes=(504, 534), phases=(Phase.AUTH,)),
    ReplyRule(_OTHER_WAY, codes=(504,), phases=(Phase.AUTH,)),
    ReplyRule(_NOT_HERE, codes=(500, 502, 503), phases=(Phase.AUTH,)),
    ReplyRule(SIGN_IN_REFUSED, codes=(5,), phases=(Phase.AUTH,)),
    ReplyRule(SIGN_IN_REFUSED, enhanced=("5.7.8",), codes=(5,)),
)
