"""Free-text reports: whether a message is one, whom it is about, and what it says about them.

No two mail systems write the same, and most of them write it in the language of whoever set them up. What
they have in common is the form: a sender that is a machine, a subject that says so, the address on a line of
its own or in front of the reply, the message that is returned behind it. An address that is found like this
is a guess, and is never enough to suppress anybody.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mailmerge.bounces.mime import MimePart


class Surroundings(Struct, frozen=True):
    """The content of a message, without the one that is returned in it."""

    subject: str
    sender: str
    return_path: str
    text: str
    """Its text for people."""
    ours: frozenset[str] = frozenset()
    """Addresses that it was sent to, in lower case."""
    returned_to: tuple[str, ...] = ()
    """The recipients of the returned message."""
    failed: tuple[str, ...] = ()
    """Addresses in ``X-Failed-Recipients``, which Exim and Gmail write."""
    in_reply_to: str = ""
    """What it is a reply to; mail systems reply too."""


_MOST_TEXT = 60_000
_MOST_LINES, _LONGEST_LINE, _MOST_IN_A_LINE = 600, 1000, 10

_ADDRESS = re.compile(
    r"[^\s<>()\[\]{}:;,\"'`@|"
    r"=*\u3000-\u9fff\uff00-\uffef]{1,64}@[a-z0-9\u00a1-\u2fff](?:[a-z0-9\u00a1-\u2fff.-]{0,253}"
    r"[a-z0-9\u00a1-\u2fff])?",
    re.IGNORECASE,
)
_RETURNED = re.compile(
    r"^[ \t>|*]{0,20}(?:"
    r"-{2,60}[- ]{0,20}(?:(?:this is a copy|below this line|the (?:body|header|text|first|following)|"
    r"original (?:message|mail"
    r"|headers?)|returned (?:message|mail)|message headers?|message text|unsent message|"
    r"undelivered message|start of"
    r"|forwarded message|copy of|included is|ursprüngliche|message d'origine|mensaje original))"
    r"|original message (?:follows|headers?)|(?:the )?(?:original|rejected|returned) message (?:is|"
    r"was) (?:attached"
    r"|below|included)|message headers? follow|headers? (?:of the message )?follows?|original (?:message|"
    r"mail)(?: as follows)?[:：]|your (?:original )?message (?:is "
    r"included|reads|follows)|(?:en-têtes|cabeceras|kopfzeilen).{0,40}:?$"
    r"|(?:received|return-path|message-id|x-original-to|dkim-signature|x-mailer):"
    r")",
    re.IGNORECASE | re.MULTILINE,
)


def text_of(parts: Sequence[MimePart]) -> str:
    """Join the text parts of a message; HTML parts only if it has no plain text."""
    own = [part for part in parts if not part.enclosed]
    plain = [part.text for part in own if part.type.startswith("text/") and part.type != "text/html"]
    if not any(text.strip() for text in plain):
        plain = [part.text for part in own if part.type == "text/html"]
    return "\n".join(plain)[:_MOST_TEXT]


def split_returned(text: str) -> tuple[str, str]:
    """Split the text from the message that is quoted after it, if there is one."""
    found = _RETURNED.search(text)
    if found is None:
        return text, ""
    if not text[: found.start()].strip():  # it begins with one: nothing is said in front of it
        later = _RETURNED.search(text, found.end())
        return (text[: later.start()], text[later.start() :]) if later else (text, text)
    return text[: found.start()], text[found.start() :]


# --- what it is ----------------------------------------------------------------------------------------

_MACHINE = re.compile(
    r"mailer-?daemon|mail[ ._-]?daemon|post_?master|mail delivery|delivery (?:sub)?system|maildelivery|"
    r"mdaemon|"
    r"mail[ ._-]?(?:er|system|admin|gateway|server)\b|mailmaster|microsoftexchange|undeliver|"
    r"double-?bounce|bounces?@|"
    r"listserv|majordomo|\bsmtp\b|系统管理员|邮件系统|系统退信|退信",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"undeliver|not deliver|loop alert|complaint about message|automatically rejected|delivery (?:status|"
    r"fail|error|problem|report|notif|has|delayed|incomplete)|"
    r"deliver(?:y|ed)?\b.{0,40}\b(?:fail|error|problem|delayed)|non-?deliver|nondeliver|"
    r"failure (?:notice|notif|deliver)|fail(?:ed|ure)?\b.{0,20}\b(?:mail|deliver|message)|"
    r"returned (?:mail|e-?mail|message|"
    r"to sender)|(?:mail|message|e-?mail)\b.{0,30}\b(?:fail|error|problem|undeliver|not sent|"
    r"not be delivered|return|"
    r"refused|rejected|bounced|delayed)|could ?n.t be (?:sent|delivered)|could not (?:be )?(?:deliver|"
    r"sen)|cannot (?:be )?"
    r"(?:deliver|send)|can't (?:be )?(?:deliver|send)|unable to deliver|user unknown|"
    r"mail ?box (?:is )?full|bounced? mail|"
    r"delivery$|rejected:|unzustellbar|nicht zustellbar|zustellung|fehlgeschlagen|non remis|non délivr|"
    r"non distribu|échec|"
    r"retour à l|no se (?:pudo|puede|ha podido)|no entregado|error de entrega|devuelto|mancato recapito|"
    r"non recapit|"
    r"impossibile (?:recapitare|consegnare)|não (?:foi )?entreg|falha|devolvido|onbestelbaar|"
    r"niet (?:worden )?(?:bezorgd|"
    r"afgeleverd)|niedostarcz|zwrot|не доставлен|недоставлен|teslim|doručit|退信|退回|"
    r"投递失败|发送失败|无法投递|無法(?:投遞|傳送)|"
    r"配信|送信エラー|返送|エラー|반송|전송 실패",
    re.IGNORECASE,
)
_FAILED = re.compile(
    r"could ?n.t be (?:sent|delivered)|could not be (?:sent|delivered|found)|(?:was|were|"
    r"is) not (?:be )?(?:delivered|sent|"
    r"reach)|wasn.t delivered|cannot be delivered|can ?not deliver|can.t deliver|unable to deliver|"
    r"undeliverable|undelivered|"
    r"delivery (?:to|has|of|attempt|status|failed|failure|error)|deliver(?:y|ing)?.{0,40}fail|"
    r"permanent(?:ly)? (?:fail|fatal|"
    r"error)|fatal errors?|failed (?:to deliver|permanently|recipient|address)|following (?:address|"
    r"recipient|message)|"
    r"did not reach|didn.t reach|was rejected|been rejected|was refused|returned|bounce|user unknown|"
    r"unknown user|"
    r"\b[45]\d\d[ -#]+[45]\.\d{1,3}\.\d|\b55[0-4]\b|not listed in|doesn.t exist|does not exist|"
    r"invalid (?:user|address|recip)|"
    r"mail ?box.{0,20}full|quota|duplicated message-id|nicht zugestellt|nicht zustellbar|konnte nicht|"
    r"n.a pas (?:pu|été)|non remis|échoué|"
    r"no se (?:pudo|puede|ha podido)|no fue posible|impossibile|não foi|não pôde|"
    r"niet (?:worden )?(?:bezorgd|afgeleverd)|"
    r"nie można|не может быть|не удалось|не доставлен|无法|退信|失败|被退回|送信できません|"
    r"配信できません|届けられません|존재하지",
    re.IGNORECASE,
)
_DELAY = re.compile(
    r"\bdelay(?:ed)?\b|warning[: -].{0,60}(?:deliver|message|mail|queue)|not yet (?:been )?(?:deliver|sent)|"
    r"will (?:continue|keep) (?:to )?(?:try|retry|be)|still (?:try|being|undelivered)|"
    r"no action is required|delivery "
    r"attempts will continue|this is a warning message only|do(?: not|n.t) need to resend|"
    r"will (?:be )?retr(?:y|ied)|will try "
    r"again|could not be delivered for (?:the last )?\d|has(?: not|n.t) been delivered (?:yet|for)|verzögert|"
    r"retard(?:é|ée)|différé|retrasad|demorad|ritard|延迟|暂时无法|継続",
    re.IGNORECASE,
)
_GIVEN_UP = re.compile(
    r"giving up|given up|gave up|permanent|will not (?:be )?(?:retr|try)|no (?:further|more) (?:attempts|"
    r"retries)|"
    r"message (?:has )?expired|too old|(?:is|was|being|been) returned|could not be delivered after|"
    r"been trying .{0,60} without|"
    r"stop trying|not be retried|retry timeout exceeded",
    re.IGNORECASE,
)
_CHALLENGE = re.compile(
    r"confirm (?:that )?(?:you|your)|verify (?:your|that you|yourself)|click (?:on )?(?:the|"
    r"this) (?:link|here).{0,80}"
    r"(?:deliver|prove|verify|approve)|boxbe|spam ?arrest|challenge.?response|sender verification|"
    r"prove (?:that )?you|"
    r"(?:reply|respond) to this (?:message|e-?mail).{0,80}(?:deliver|releas|confirm)|waiting list|"
    r"on (?:my|the) (?:approved|"
    r"guest|allow) list|tmda|one.time (?:verification|confirmation)",
    re.IGNORECASE | re.DOTALL,
)
_AN_ANSWER = re.compile(
    r"\s*(?:re|aw|antw(?:ort)?|fwd?|wg|tr|rv|res|enc|sv|vs|vb|vl|odp|pd|ynt|ilt|atb|doorst|rif|ref|r|i|ha|na|"
    r"отв(?:ет)?|на|σχετ|απ|答复|回复|回覆|转发|轉寄|转寄|返信|転送|회신|전달)"
    r"[ ]?(?:\[\d{1,3}\]|\(\d{1,3}\))?[ ]?[:：]",
    re.IGNORECASE,
)
"""How subjects begin when a person replies or forwards something."""
_AWAY = re.compile(
    r"out of (?:the )?office|auto(?:matic|mated)?[ -]?(?:reply|response|answer|responder)|\bvacation\b|"
    r"away from|on leave|"
    r"holiday|abwesenheit|automatische antwort|abwesend|nicht im (?:büro|haus)|réponse automatique|"
    r"absence|absent du bureau|"
    r"respuesta automática|fuera de (?:la )?oficina|risposta automatica|fuori (?:ufficio|sede)|"
    r"resposta automática|"
    r"automatisch antwoord|afwezig|autosvar|frånvaro|poissa|automatyczna odpowiedź|автоответ|"
    r"自动回复|自動回覆|"
    r"不在|自動応答|休暇|自动答复|自動回應|自動返信|자동 ?(?:회신|응답)|부재|"
    r"автоматич\w+ (?:ответ|відповідь)|"
    r"automatisk[t]? svar|automaattinen vastaus|odpowiedź automatyczna|automatick\w+ odpov[eě]ď|"
    r"otomatik yan[ıi]t|αυτόματη απάντηση|automatikus válasz|răspuns automat|automatski odgovor|"
    r"samodejni odgovor|автоматичен отговор|automatinis atsakymas|automātiska atbilde|trả lời tự động|"
    r"ตอบกลับอัตโนมัติ|balasan otomatis|jawapan automatik|תשובה אוטומטית|الرد التلقائي|رد تلقائي",
    re.IGNORECASE,
)


def is_machine(about: Surroundings) -> bool:
    """Return whether the sender is a mail system, by a null return path or its name."""
    return about.return_path.strip() == "<>" or _MACHINE.search(about.sender[:500]) is not None


def sounds_automatic(about: Surroundings) -> bool:
    """Return whether it may be a report or an automatic reply, judging by sender and subject."""
    subject = about.subject[:300]
    if is_machine(about) or _AWAY.search(subject) or _CHALLENGE.search(subject):
        return True
    return _SUBJECT.search(subject) is not None and not _is_answer(about)


def is_bounce(about: Surroundings) -> bool:
    """Return whether it is a free-text report: it needs two of the signs that such reports have."""
    machine = _MACHINE.search(about.sender[:500]) is not None
    subject = _SUBJECT.search(about.subject[:300]) is not None
    failed = _FAILED.search(about.text[:20_000]) is not None
    if about.failed:
        return True
    if not machine and _AWAY.search(about.subject[:300]) is not None:
        return False
    null = about.return_path.strip() in {"<>", "<MAILER-DAEMON>"}
    if not machine and not null and _is_answer(about):
        return False  # people write about deliveries that failed, too, and under the subjects that we chose
    return (failed and (machine or subject or null)) or (machine and subject)


def _is_answer(about: Surroundings) -> bool:
    return bool(about.in_reply_to) or _AN_ANSWER.match(about.subject) is not None


def is_delay(about: Surroundings) -> bool:
    """Return whether the mail system continues to try."""
    text = f"{about.subject}\n{about.text[:5000]}"
    return _DELAY.search(text) is not None and _GIVEN_UP.search(text) is None


def is_challenge(about: Surroundings) -> bool:
    """Return whether it asks for confirmation that a person wrote the message."""
    return _CHALLENGE.search(f"{about.subject}\n{about.text[:5000]}") is not None and (
        is_machine(about)
        or re.search(r"boxbe|verif|confirm|challenge|arrest", about.subject, re.IGNORECASE) is not None
    )


def is_automatic(top: MimePart, about: Surroundings) -> bool:
    """Return whether a program wrote it in reply to ours (RFC 3834, and what was usual before)."""
    submitted = top.field("auto-submitted").strip().lower()
    if submitted and not submitted.startswith("no"):
        return True
    precedence = top.field("precedence").strip().lower()
    names = ("x-autoreply", "x-autorespond", "x-autoresponder", "x-auto-response-suppress", "x-vacation")
    return (
        any(top.field(name) for name in names)
        or precedence in {"auto_reply", "auto-reply", "junk"}
        or _AWAY.search(about.subject[:300]) is not None
    )


# --- whom it is about ----------------------------------------------------------------------------------

_ALONE = re.compile(
    r"[ \t>*|·•-]{0,20}(?:<([^<>\s]{3,320})>|([^<>\s]{3,320}))[ \t]*[:;,.]?[ \t]*(?:\(.{0,200}\))?[ \t]*\Z"
)
_IN_FRONT = re.compile(
    r"[ \t>*|]{0,20}<?([^<>\s:]{3,320}@[^<>\s:]{1,255})>?[ \t]*"
    r"(?::|\.\.\.|[ ,]*[Ff]ailed|[(]|[ \t]-[ \t]|[ \t]*=)"
)
_LABEL = re.compile(
    r"^[ \t>*|]{0,20}(?:to|cc|recipients?(?: address(?:es)?)?|(?:final|original)-recipient|"
    r"failed (?:recipients?|address(?:es)?)|"
    r"address(?:es)?|e-?mail|rcpt(?: to)?|user|an|empfänger|destinataire|destinatario|收件人|"
    r"收信人|宛先|получатель)"
    r"[^:：@]{0,30}[:：]",
    re.IGNORECASE,
)
_COMMAND = re.compile(r"rcpt to:? ?<?", re.IGNORECASE)
_MACHINES = re.compile(
    r"^(?:mailer-?daemon|postmaster|abuse|support|help(?:desk)?|no-?reply|info-?noreply|webmaster|root|"
    r"noc|security|"
    r"unsubscribe|delist|removal?s?)@",
    re.IGNORECASE,
)
_LEAST, _LIKE_ONE = 3, 4


def recipients(about: Surroundings) -> list[str]:
    """Return the addresses that a free-text report is about, in lower case; only the most certain ones."""
    if about.failed:
        return _once(about.failed)
    returned = {address.lower() for address in about.returned_to}
    own = {found.lower() for found in _ADDRESS.findall(about.sender)} | about.ours
    scores: dict[str, int] = {}
    doubtful: dict[str, int] = {}
    """Addresses that the report went to: one of them may also be the one that failed."""
    lines = [line[:_LONGEST_LINE] for line in (about.subject, *about.text.split("\n")[:_MOST_LINES])]
    for number, line in enumerate(lines):
        for found in _ADDRESS.findall(line)[:_MOST_IN_A_LINE]:
            address = found.strip(".-").lower()
            score = _score(line, address) + (address in returned) - (number == 0)
            if address not in returned and (address in own or _MACHINES.match(address)):
                if address in about.ours and score >= _LIKE_ONE:
                    doubtful[address] = score
                continue
            scores[address] = max(scores.get(address, 0), score)
    scores = scores or doubtful
    best = max(scores.values(), default=0)
    if best < _LEAST and returned:
        return sorted(returned)[:20]
    if best < 1:
        return [address for address in _once(_ADDRESS.findall(about.text)) if address not in own][:1]
    return [address for address, score in scores.items() if score == best][:50]


def _score(line: str, address: str) -> int:
    alone = _ALONE.match(line)
    if alone and address in (alone[1] or alone[2] or "").lower():
        return 5
    front = _IN_FRONT.match(line)
    if front and address in front[1].lower():
        return 5
    if (label := _LABEL.match(line)) or _COMMAND.search(line):
        # "To:" may be a line of the header of what came back.
        return 3 if label and label[0].strip(" \t>*|").lower() in {"to:", "cc:"} else 4
    return 3 if _FAILED.search(line) or re.search(r"\b[45]\d\d\b", line) else 1


def _once(addresses: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(address.strip(".,").lower() for address in addresses))[:50]


def about_recipient(text: str, address: str) -> str:
    """Return the text from the address on, up to the next address that has text of its own."""
    low = text.lower()
    at = low.find(address)
    if at < 0:
        return text
    start = low.rfind("\n", 0, at) + 1
    lines = text[start : start + 4000].split("\n")
    kept = lines[:1]
    for line in lines[1:40]:
        line = line[:_LONGEST_LINE]  # noqa: PLW2901
        other = _IN_FRONT.match(line) or _ALONE.match(line)
        if other and _ADDRESS.search(line) and address not in line.lower():
            break
        kept.append(line)
    return "\n".join(kept)


_REPLY = re.compile(r"(?<![\d.])[45]\d\d[ -](?:#?[45]\.\d{1,3}\.\d{1,3}\b)?[^\n]{3,300}")


def gist(text: str) -> str:
    """Return the text to show: the quoted reply, else the beginning."""
    found = _REPLY.search(text)
    return found[0].strip() if found else " ".join(text.split())[:300]
