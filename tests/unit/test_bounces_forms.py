"""Reports as mail systems write them: what each is, whom it is about, and what it means."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.bounces.mail_sources import letters
from mailmerge.bounces.mime import MOST_OCTETS, take_apart
from mailmerge.bounces.reasons import judge
from mailmerge.bounces.report import may_be_report, read_report
from mailmerge.mail_folders.mail_place import MailPlace
from reports import answer, complaint, delivery_report

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "bounces").glob("*.eml"))
OURS = "<0123456789abcdef0123456789abcdef01234567@example.org>"


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_f10_each_form_is_told_apart(path: Path) -> None:
    """Kind, recipient, sort and reason are what its first line expects."""
    raw = path.read_bytes()
    expected = take_apart(raw)[0].field("x-expected").split()
    report = read_report(raw)

    first = report.failures[0] if report.failures else None
    found = [first.address or "-", first.sort, first.reason] if first else ["-", "-", "-"]
    assert [report.kind, *found] == expected
    # What an IMAP mailbox tells of it is enough to fetch it.
    assert may_be_report(take_apart(raw)[0].fields) or report.kind == "other"


def test_f7_each_recipient_of_a_report_has_its_own_action() -> None:
    """One failed, one is delayed, one was passed on; the original address counts before the final one."""
    block = b"\nFinal-Recipient: rfc822; cy@example.org\nAction: delayed\nStatus: 4.4.1\n"
    block += b"\nFinal-Recipient: rfc822; di@example.org\nAction: expanded\nStatus: 2.0.0\n"
    block += b"\n--=_b\nContent-Type: text/rfc822-headers"
    raw = delivery_report(OURS, address="inner@lan.example", original="bo@example.net")
    report = read_report(raw.replace(b"\n--=_b\nContent-Type: text/rfc822-headers", block, 1))

    assert [(f.address, f.final, f.sort) for f in report.failures] == [
        ("bo@example.net", "inner@lan.example", "hard"),
        ("cy@example.org", "cy@example.org", "delayed"),
        ("di@example.org", "di@example.org", "success"),
    ]
    assert report.ids == (OURS[1:41],)


@pytest.mark.parametrize("header", ["In-Reply-To: <a@example.org>\n", ""])
@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Re: Delivery problem with your order", "It was returned, user unknown: bo@example.net"),
        ("AW: Zustellung Ihrer Rechnung", "Die Datei konnte nicht geöffnet werden."),
        ("Re: Résultats, échec et réussite", "Il n'a pas pu venir, l'adresse n'existe pas."),
        ("Res: Falha no pagamento", "Não foi possível pagar, usuário desconhecido."),
        ("答复: 退回押金的通知", "押金无法退回, 用户不存在"),
        ("Re[2]: 配信エラーのお詫び", "届けられませんでした。"),
    ],
)
def test_f11_a_person_who_answers_in_such_words_is_a_person(header: str, subject: str, text: str) -> None:
    """The subject was the campaign's own; a mail system that answers with it still counts."""
    letter = f"{header}Subject: {subject}\nTo: me@example.org\n\n{text}\n"
    raw = f"Return-Path: <bo@example.net>\nFrom: bo@example.net\n{letter}".encode()
    assert read_report(raw).kind == "other"
    assert not may_be_report(take_apart(raw)[0].fields)  # of an IMAP mailbox it is not even fetched
    assert read_report(f"Return-Path: <>\nFrom: MAILER-DAEMON@x.example\n{letter}".encode()).kind == "prose"


@pytest.mark.parametrize(
    "subject",
    [
        *(
            "Abwesenheitsnotiz: x",
            "Réponse automatique : x",
            "Respuesta automática: x",
            "Risposta automatica: x",
        ),
        *(
            "Automatiskt svar: x",
            "Automatisk svar: x",
            "Automaattinen vastaus: x",
            "Odpowiedź automatyczna: x",
        ),
        *(
            "Automatická odpověď: x",
            "Автоматический ответ: x",
            "Автоматична відповідь: x",
            "Otomatik Yanıt: x",
        ),
        *("自动答复: x", "自动回复：x", "自動回覆: x", "自動応答: x", "자동 회신: x", "Αυτόματη απάντηση: x"),
        *("Automatikus válasz: x", "Răspuns automat: x", "Resposta automática: x", "Automatisch antwoord: x"),
    ],
)
def test_f11_outlook_says_that_somebody_is_away_in_its_own_language(subject: str) -> None:
    """Exchange marks such answers in the subject alone once they pass a gateway that drops its fields."""
    letter = f"Return-Path: <bo@example.net>\nFrom: bo@example.net\nSubject: {subject}\n\nAway.\n"
    assert read_report(letter.encode()).kind == "auto_reply"


@pytest.mark.parametrize("kind", ["not-spam", "auth-failure"])
def test_f11_not_every_feedback_is_a_complaint(kind: str) -> None:
    """Nobody is suppressed by "this is not spam", and by reports about DMARC."""
    assert read_report(complaint(OURS, kind=kind)).kind == "other"
    assert read_report(complaint(OURS)).failures[0].sort == "complaint"


@pytest.mark.parametrize(
    ("said", "sort"),
    [
        ("550 5.1.1 no such user", "hard"),
        ("550 5.7.1 no mailbox here by that name", "hard"),
        ("550 5.4.4 Host not found", "hard"),
        ("451 4.4.3 Host not found, try again", "soft"),
        ("DNS Error: DNS type 'mx' lookup responded with code NXDOMAIN, 4.0.0", "hard"),
        ("Benutzer bo (bo@example.net) nicht im Domino-Verzeichnis aufgelistet", "hard"),
        ("退信原因：您今天发送的邮件数量已超过限制，请明天再发送。", "quota"),
        ("退信原因：该邮箱账号已被停用或注销", "hard"),
        ("550 Dieser Benutzer ist unbekannt", "hard"),
        ("550 Cette boite aux lettres n existe pas", "hard"),
        ("550 Conta inexistente", "hard"),
        ("550 Användaren finns inte", "hard"),
        ("550 존재하지 않는 사용자입니다", "hard"),
        ("550 Нет такого пользователя", "hard"),
        ("550 收件人邮箱容量已满", "soft"),
        ("552 Sin espacio: el buzón del destinatario está lleno", "soft"),
        ("550 Postfach des Empfängers ist voll", "soft"),
        ("605 Not delivering to previously bounced address", "hard"),
        ("550 5.4.6 Unusual sending activity detected. Please try after sometime", "quota"),
        ("552 5.2.2 mailbox full", "soft"),
        ("550 5.2.2 The email account that you tried to reach is over quota", "soft"),
        ("450 4.2.0 Greylisted, please try again in 5 minutes", "soft"),
        ("550 5.7.1 Service unavailable; client [192.0.2.1] blocked using dnsbl.example", "policy"),
        ("550 5.7.26 Unauthenticated email from example.org is not accepted due to DMARC policy", "policy"),
        ("554 5.7.1 too many invalid recipients from your address", "policy"),
        ("553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "policy"),
        ("550 5.7.1 RESOLVER.RST.NotAuthorized; not authorized", "policy"),
        ("552 5.3.4 message size exceeds fixed limit", "policy"),
        ("550 5.4.5 You have reached a limit for sending mail", "quota"),
        ("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", "quota"),
        ("550 5.0.0 no", "unclear"),
    ],
)
def test_a_reason_is_hard_only_where_it_names_the_recipient(said: str, sort: str) -> None:
    """What is full, unwanted, unreachable or about us never counts as an address that does not exist."""
    from mailmerge.bounces.report import codes

    assert judge(*codes(said), said).sort == sort


def nested(depth: int) -> bytes:
    """Nest messages in messages."""
    head = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\nContent-Type: message/rfc822\n\n" % (n, n)
        for n in range(depth)
    )
    return b"From: MAILER-DAEMON@x\nSubject: failure notice\n" + head + b"Subject: end\n\nend\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n\n",
        b"\0" * 1000,
        b"no header at all",
        nested(1000),
        b"Content-Type: multipart/report; boundary=\n\n--\n",
        b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\n" * 50_000,
        b"From: MAILER-DAEMON@x\nSubject: failure notice\n\n" + b"a@" * 300_000,
        b"From: MAILER-DAEMON@x\nSubject: failure notice\n\n" + b"<a@b.example>: " * 50_000,
        b"From: MAILER-DAEMON@x\nSubject: failure notice\nContent-Type: text/html\n\n" + b"<style" * 100_000,
        b"Subject: =?" * 10_000,
        b"X: y\n" * 100_000,
        delivery_report(OURS).replace(
            b"Final-Recipient", b"Final-Recipient: x\n" * 20_000 + b"Final-Recipient"
        ),
        b"Content-Type: text/plain; charset=idna\nFrom: MAILER-DAEMON@x\n\n" + b"x" * 100_000,
        b"Content-Type: text/plain; charset=hex\nContent-Transfer-Encoding: base64\n\n=A=",
    ],
    ids=range(15),
)
def test_f9_no_message_is_an_error(raw: bytes) -> None:
    """Nested a thousand deep, endless, without end or in no charset: it is something, and has a mark."""
    report = read_report(raw)

    assert len(report.mark) == 32
    assert len(report.failures) <= 100


def test_f9_ten_levels_are_taken_apart() -> None:
    """Anything nested deeper is not a part of its own."""
    assert len(take_apart(nested(1000))) == 11


@given(st.binary(max_size=400), st.sampled_from([path.read_bytes() for path in SAMPLES]), st.data())
def test_f9_no_octets_are_an_error(junk: bytes, sample: bytes, data: st.DataObject) -> None:
    """Put anywhere into a report, in the place of anything, they make another message, never an exception."""
    start = data.draw(st.integers(0, len(sample)))
    end = data.draw(st.integers(start, len(sample)))

    read_report(sample[:start] + junk + sample[end:])


def test_f9_of_a_large_message_a_megabyte_is_read(tmp_path: Path) -> None:
    """50 MB behind a report change nothing; pipes and folders in the place of a message are passed over."""
    import os

    (tmp_path / "large.eml").write_bytes(delivery_report(OURS) + b"x" * 50_000_000)
    os.mkfifo(tmp_path / "pipe.eml")
    (tmp_path / "folder.eml").mkdir()
    (letter,) = letters(MailPlace("eml", tmp_path))

    assert len(letter.raw) == MOST_OCTETS
    assert read_report(letter.raw).failures[0].sort == "hard"


def test_f9_an_mbox_is_cut_where_messages_begin(tmp_path: Path) -> None:
    """A line of text that begins with the word does not begin a message, and the last one may have no end."""
    path = tmp_path / "box"
    path.write_bytes(
        b"From me@example.org Fri Nov 27 10:00:00 2026\nSubject: one\n\nFrom here on\n>From there\n\n"
        b"From x Fri Nov 27 10:00:00 2026\nSubject: two\n\ntext"
    )

    assert [letter.raw for letter in letters(MailPlace("mbox", path))] == [
        b"Subject: one\n\nFrom here on\n>From there\n\n",
        b"Subject: two\n\ntext",
    ]


def test_a_message_has_the_same_mark_wherever_it_is_kept(tmp_path: Path) -> None:
    """Line ends, an mbox's quoting and fields that a mail program adds on top do not change it."""
    raw = delivery_report(OURS).replace(b"hello", b"From here")
    kept = b"X-Status: RO\n" + raw.replace(b"\nFrom here", b"\n>From here")
    marks = {read_report(text).mark for text in (raw, raw.replace(b"\n", b"\r\n"), kept, kept + b"\n\n")}

    assert len(marks) == 1
    assert read_report(answer(OURS)).mark not in marks
