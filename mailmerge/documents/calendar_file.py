"""An invitation for calendar programs (RFC 5545, RFC 5546), by icalendar.

The organizer is From, the attendee is To. The event is identified by a digest of the sender, the row's key
and the template of its summary, so a corrected message is about the same event; `uid` overrides it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from mailmerge.message.invitation import STAND_IN

if TYPE_CHECKING:
    from mailmerge.addresses import Mailbox
    from mailmerge.model import Rendered, RenderedEvent

_BEGIN = "BEGIN:VEVENT\r\n"


def invitation(rendered: Rendered, event: RenderedEvent, key: str) -> str:
    """Return the iCalendar object of a row's event, with a placeholder for the time it was made.

    Args:
        rendered: the rendered row.
        event: the output of the event's templates.
        key: the row's key.

    """
    import icalendar

    calendar = icalendar.Calendar()
    calendar.add("prodid", "-//mailmerge-kit//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "REQUEST")
    made = icalendar.Event()
    start, end = _moment(event.start, event.timezone), _moment(event.end, event.timezone)
    made.add("uid", event.uid or _uid(rendered, event, key))
    made.add("summary", event.summary)
    made.add("dtstart", start)
    made.add("dtend", end)
    for name, text in (("location", event.location), ("description", event.description), ("url", event.url)):
        if text:
            made.add(name, text)
    made.add("status", "CONFIRMED")
    made.add("organizer", _person(icalendar, rendered.from_), encode=False)
    for box in rendered.to:
        guest = _person(icalendar, box)
        guest.params.update({"ROLE": "REQ-PARTICIPANT", "PARTSTAT": "NEEDS-ACTION", "RSVP": "TRUE"})
        made.add("attendee", guest, encode=False)
    if event.reminder is not None:
        alarm = icalendar.Alarm()
        alarm.add("action", "DISPLAY")
        alarm.add("description", event.summary)
        alarm.add("trigger", timedelta(minutes=-event.reminder))
        made.add_component(alarm)
    calendar.add_component(made)
    if event.timezone and isinstance(start, datetime):
        year = start.year
        calendar.add_missing_timezones(first_date=date(year, 1, 1), last_date=date(year + 1, 12, 31))
    written: str = calendar.to_ical().decode("utf-8")
    return written.replace(_BEGIN, _BEGIN + STAND_IN, 1)


def _moment(moment: date, zone: str) -> date:
    """Return a day, or a time in its zone; without a zone it is in UTC."""
    if not isinstance(moment, datetime):
        return moment
    return moment.replace(tzinfo=ZoneInfo(zone) if zone else UTC)


def _person(icalendar: Any, box: Mailbox) -> Any:
    local = quote(box.address.local, safe="!$&'*+-=_~.")  # RFC 6068, section 2
    person = icalendar.vCalAddress(f"mailto:{local}@{box.address.domain}")
    if box.name:
        person.params["CN"] = box.name
    return person


def _uid(rendered: Rendered, event: RenderedEvent, key: str) -> str:
    sender = rendered.from_.address
    text = "\0".join((str(sender.normalised), key, event.kind))
    return f"{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}@{sender.domain}"
