"""Invitations, as the icalendar library and Python's email read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any

import icalendar
import pytest

from mailmerge.errors import CampaignFileError
from mailmerge.message import Thawer
from mailmerge.model import Status

if TYPE_CHECKING:
    from email.message import EmailMessage

    from campaigns import CampaignFactory
    from mailmerge import Campaign, Plan

CALENDAR = (
    'summary = "Review with {{ name }}", start = "{{ slot }}", timezone = "Europe/Berlin", minutes = 30'
)


@pytest.fixture
def invite(campaign_factory: CampaignFactory) -> Any:
    """Open a campaign of one row that invites: ``invite("2026-03-05 14:00")``."""

    def write(slot: str = "2026-03-05 14:00", calendar: str = CALENDAR, **wanted: Any) -> Campaign:
        message = f"calendar = {{ {calendar} }}\n"
        message += "" if "to =" in wanted.get("message", "") else 'to = "{{ name }} <{{ email }}>"\n'
        given = {"heading": "email,name,slot", "rows": [f"ana@example.com,Ana,{slot}"], **wanted}
        campaign_factory.folder.mkdir(exist_ok=True)
        return campaign_factory(message=message + given.pop("message", ""), **given)

    return write


def parsed(plan: Plan) -> EmailMessage:
    """Read the one message."""
    [message] = plan.messages()
    return message_from_bytes(message.content, policy=policy.default)


def event_of(message: EmailMessage) -> Any:
    """Read the event of the part that calendars look for."""
    [part] = [part for part in message.walk() if part.get_content_type() == "text/calendar"]
    [event] = icalendar.Calendar.from_ical(part.get_content()).walk("VEVENT")
    return event


def test_what_is_received_is_an_invitation(invite: Any) -> None:
    """The last alternative is a REQUEST of From to To, in its time zone, and the same is a file."""
    message = parsed(invite().plan())
    structure = [part.get_content_type() for part in message.walk()]
    assert structure == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/calendar",
        "application/ics",
    ]
    part = list(message.walk())[3]
    assert (part.get_param("method"), part.get_content_charset()) == ("REQUEST", "utf-8")
    attachment = list(message.walk())[4]
    assert attachment.get_filename() == "invite.ics"
    assert attachment.get_payload(decode=True) == part.get_payload(decode=True)
    calendar = icalendar.Calendar.from_ical(part.get_content())
    event = event_of(message)
    assert calendar["METHOD"] == "REQUEST"
    assert (event["SUMMARY"], event["ORGANIZER"], event["ORGANIZER"].params["CN"]) == (
        "Review with Ana",
        "mailto:me@example.org",
        "Me",
    )
    guest = event["ATTENDEE"]
    assert (guest, guest.params["CN"], guest.params["RSVP"]) == ("mailto:ana@example.com", "Ana", "TRUE")
    assert event.start.isoformat() == "2026-03-05T14:00:00+01:00"
    assert event.end - event.start == timedelta(minutes=30)
    assert [zone["TZID"] for zone in calendar.walk("VTIMEZONE")] == ["Europe/Berlin"]


def test_values_are_data(invite: Any) -> None:
    """No cell adds a property, an attendee or a line, in whatever part of the event it is printed."""
    name = 'X; Y\\, ""Z""; ATTENDEE:mailto:e@x.example'
    calendar = (
        CALENDAR + ', location = "{{ name }}", description = "{{ name }}\\nATTENDEE:mailto:f@x.example"'
    )
    campaign = invite(calendar=calendar, rows=[f'ana@example.com,"{name}",2026-03-05 14:00'])
    event = event_of(parsed(campaign.plan()))
    shown = name.replace('""', '"')
    assert event["LOCATION"] == shown
    assert event["DESCRIPTION"] == f"{shown}\nATTENDEE:mailto:f@x.example"
    assert event["ATTENDEE"] == "mailto:ana@example.com"


@pytest.mark.parametrize("bad", ["\r", "\n", "\r\n", "\x0b", "\x85", "\u2028", "\0"])
def test_no_line_comes_from_a_value(invite: Any, bad: str) -> None:
    """Whatever a reader may take for the end of a line, no cell begins a new one."""
    name = f"X{bad}ATTENDEE:mailto:e@x.example"
    calendar = CALENDAR + "".join(
        f', {key} = "{{{{ name }}}}"' for key in ("location", "description", "url", "uid")
    )
    campaign = invite(calendar=calendar, message='to = "{{ email }}"', rows=[])
    people = campaign.definition.file.folder / "people.csv"
    people.write_bytes(f'email,name,slot\nana@example.com,"{name}",2026-03-05 14:00\n'.encode())
    plan = campaign.plan()
    if plan.ready:
        part = next(part for part in parsed(plan).walk() if part.get_content_type() == "text/calendar")
        text = str(part.get_content())
        assert [line for line in text.splitlines() if line.startswith("ATTENDEE:")] == []
        assert event_of(parsed(plan))["ATTENDEE"] == "mailto:ana@example.com"


@pytest.mark.parametrize("calendar", [CALENDAR, 'summary = "S", start = "2026-03-05"'])
def test_half_a_character_is_no_bug(invite: Any, calendar: str) -> None:
    """A lone surrogate in the event, or in a file that is made, makes the row invalid."""
    row = {"email": "ana@example.com", "name": "A\ud800", "slot": "2026-03-05 14:00"}
    files = {"people.json": json.dumps([row]), "t.txt": "{{ name }}", "body.txt": "Hello"}
    plan = invite(
        calendar=calendar,
        files=files,
        data='source = "people.json"',
        rest='\n[[attach]]\ntemplate = "t.txt"\n',
        message='to = "{{ email }}"\nsubject = "S"\n',
    ).plan()
    assert plan.counts[Status.INVALID] == 1


@pytest.mark.parametrize(
    ("slot", "calendar", "start", "end"),
    [
        ("2026-03-05", CALENDAR, "2026-03-05", "2026-03-06"),
        ("2026-03-05T14:00+05:00", CALENDAR, "2026-03-05T10:00:00+01:00", "2026-03-05T10:30:00+01:00"),
        ("2026-03-29 01:45", CALENDAR, "2026-03-29T01:45:00+01:00", "2026-03-29T03:15:00+02:00"),
        (
            "2026-07-01T14:00+02:00",
            'summary = "S", start = "{{ slot }}", minutes = 90',
            "2026-07-01T12:00:00+00:00",
            "2026-07-01T13:30:00+00:00",
        ),
        (
            "2026-03-05",
            'summary = "S", start = "{{ slot }}", end = 2026-03-07',
            "2026-03-05",
            "2026-03-08",
        ),
        (
            "2026-03-05",
            'summary = "S", start = "{{ slot }} 09:00", end = "{{ slot }} 17:00", timezone = "Asia/Shanghai"',
            "2026-03-05T09:00:00+08:00",
            "2026-03-05T17:00:00+08:00",
        ),
    ],
)
def test_when_it_is(invite: Any, slot: str, calendar: str, start: str, end: str) -> None:
    """Days, times in a zone and times with an offset are what they say, also when clocks change meanwhile."""
    event = event_of(parsed(invite(slot, calendar).plan()))
    assert (event.start.isoformat(), event.end.isoformat()) == (start, end)


def test_a_typed_cell_is_read_whatever_the_list_shows(invite: Any) -> None:
    """A column with a type has its value, not its text, taken."""
    data = 'types = { slot = "date:%d.%m.%Y %H:%M" }'
    event = event_of(parsed(invite("05.03.2026 14:00", data=data).plan()))
    assert event.start.isoformat() == "2026-03-05T14:00:00+01:00"


@pytest.mark.parametrize(
    ("slot", "calendar", "told"),
    [
        ("5 March", CALENDAR, "the start of the event is not a date and time"),
        ("", CALENDAR, "the start of the event is empty"),
        ("2026-03-29 02:30", CALENDAR, "02:30 on 2026-03-29 does not exist in Europe/Berlin"),
        (
            "2026-03-05 14:00",
            'summary = "S", start = "{{ slot }}", minutes = 5',
            "the time zone of the event is not specified",
        ),
        (
            "2026-03-05 14:00",
            CALENDAR.replace(", minutes = 30", ""),
            "the length of the event is not specified",
        ),
        ("2026-03-05 14:00", CALENDAR.replace("30", '"soon"'), "not a whole number"),
        ("2026-03-05 14:00", CALENDAR.replace("Europe/Berlin", "Europe/Berln"), "time zone is not known"),
        ("2026-03-05 14:00", CALENDAR.replace("Europe/Berlin", "../etc/passwd"), "time zone is not known"),
        ("2026-03-05 14:00", CALENDAR + ', end = "2026-03-05 13:00"', "ends before it begins"),
        ("2026-03-05 14:00", CALENDAR + ', end = "2026-03-06"', "ends with a day"),
    ],
)
def test_an_uncertain_event_makes_the_row_invalid(invite: Any, slot: str, calendar: str, told: str) -> None:
    """Nobody is invited to a moment that was guessed."""
    plan = invite(slot, calendar).plan()
    [found] = [group.first for group in plan.problems if group.first.code == "A355"]
    assert (plan.counts[Status.INVALID], told in found.message) == (1, True), found.message


def test_an_event_is_told_by_its_row(invite: Any, campaign_factory: CampaignFactory) -> None:
    """The UID is the same when the text or the time changes, another for another row; `uid` overrides it."""
    first = event_of(parsed(invite().plan()))["UID"]
    assert event_of(parsed(invite("2026-03-06 15:00", files={"body.txt": "New"}).plan()))["UID"] == first
    assert event_of(parsed(invite(rows=["bo@example.com,Bo,2026-03-05 14:00"]).plan()))["UID"] != first
    assert event_of(parsed(invite(calendar=CALENDAR + ', uid = "r-{{ name }}"').plan()))["UID"] == "r-Ana"


def test_a_later_message_supersedes_an_earlier_one(invite: Any) -> None:
    """SEQUENCE and DTSTAMP come from Date: the same for the same message, greater for a later one."""
    plan = invite().plan()
    assert plan.handle is not None
    reader = plan.handle.definition.plan_cache.find(plan.handle.name, datetime.now(UTC))
    assert reader is not None
    with reader:
        [row] = reader.rows()
        frozen = reader.message(row.message)

    def sent(moment: datetime) -> tuple[int, datetime, int]:
        message = Thawer().thaw(frozen, message_id="<a@example.org>", date=moment)
        event = event_of(message_from_bytes(message.content, policy=policy.default))
        return event["SEQUENCE"], event["DTSTAMP"].dt, len(message.content)

    at = datetime(2026, 11, 27, 9, 41, tzinfo=UTC)
    first, again, later = sent(at), sent(at), sent(at + timedelta(seconds=1))
    assert first == again
    assert (later[0] - first[0], first[1], later[2] <= frozen.size) == (1, at, True)


def test_a_reminder(invite: Any) -> None:
    """It is shown so many minutes before."""
    message = parsed(invite(calendar=CALENDAR + ", reminder = 15").plan())
    [alarm] = event_of(message).walk("VALARM")
    assert alarm["TRIGGER"].dt == timedelta(minutes=-15)


def test_three_forms_of_one_content(invite: Any) -> None:
    """Text, HTML and calendar are alternatives in this order, with attachments beside them."""
    html = '<html lang="en"><title>x</title><p>Hi {{ name }}</p></html>'
    rest = '\n[[attach]]\ntemplate = "t.txt"\n'
    message = parsed(invite(files={"body.html": html, "t.txt": "{{ name }}"}, rest=rest).plan())
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "text/calendar",
        "text/plain",
        "application/ics",
    ]


@pytest.mark.parametrize(
    ("calendar", "told"),
    [
        ('summary = "x"', "has no `start`"),
        (CALENDAR + ', strat = "x"', "did you mean"),
        ("start = true", "C40"),
    ],
)
def test_a_wrong_table_is_refused(invite: Any, calendar: str, told: str) -> None:
    """What is missing or misspelt is told with the file."""
    with pytest.raises(CampaignFileError) as failed:
        invite(calendar=calendar)
    shown = " ".join(f"{one.code} {one.message} {one.hint}" for one in failed.value.diagnostics)
    assert told in shown


def test_a_missing_icalendar_is_told(invite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named before the first row."""
    campaign = invite()
    monkeypatch.setitem(__import__("sys").modules, "icalendar", None)
    with pytest.raises(CampaignFileError) as failed:
        campaign.plan()
    assert (failed.value.code, "mailmerge-kit[calendar]" in (failed.value.hint or "")) == ("X902", True)
