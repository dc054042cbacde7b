"""The event of ``[message] calendar``: from its templates to an unambiguous day or time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mailmerge.lazy_re import lazy_re
from mailmerge.model import RenderedEvent
from mailmerge.render.failures import row_error
from mailmerge.text import HALF_A_CHARACTER, LONE_SURROGATE, quoted
from mailmerge.unsubscribe import STAND_IN
from mailmerge.values import notation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailmerge.errors import RowError
    from mailmerge.model import Recipient
    from mailmerge.render.compiler import Compiler

_CONTROL = lazy_re("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_HALF = lazy_re(LONE_SURROGATE)
_MOMENTS = frozenset(("start", "end"))
_LONGEST = 527_040
"""Longest event: the minutes of a leap year."""
_WRITE = (
    'write it as 2026-12-31 16:30, or give the column a type: data.types = {{ {} = "date:%d.%m.%Y %H:%M" }}'
)


class EventTemplate:
    """The templates of the event.

    Args:
        compiler: compiles them, and collects their problems.
        sources: the templates by key of the table.

    """

    def __init__(self, compiler: Compiler, sources: Mapping[str, str]) -> None:
        kinds = {"description": "text", **dict.fromkeys(_MOMENTS, "moment")}
        self._templates = {
            key: compiler.option(f"message.calendar.{key}", source, kinds.get(key, "line"))  # type: ignore[arg-type]
            for key, source in sources.items()
        }
        self._kind = sources.get("summary", "")

    def render(self, variables: dict[str, Any], recipient: Recipient) -> RenderedEvent:
        """Return the row's event.

        Raises:
            RowError: its time or another field is missing or not certain.

        """
        texts = {
            key: _cleaned(template.text(variables), lines=key == "description")
            for key, template in self._templates.items()
        }
        if any(map(_HALF.search, texts.values())):
            raise row_error("D118", f"the event contains {HALF_A_CHARACTER}", recipient)
        if any(STAND_IN in text for text in texts.values()):
            message = "the event contains the unsubscribe link, which is made only when a message is sent"
            raise row_error("A355", message, recipient, hint="put the link into the message's text and HTML")
        for key in ("summary", "start"):
            if not texts.get(key):
                raise row_error("A355", f"the {key} of the event is empty", recipient)
        zone = texts.get("timezone", "")
        start, zone = self._moment("start", texts, zone, recipient)
        end = self._end(start, texts, zone, recipient)
        if end < start or (end == start and not isinstance(start, datetime)):
            raise row_error("A355", f"the event ends before it begins: {start} to {end}", recipient)
        return RenderedEvent(
            summary=texts["summary"],
            start=start,
            end=end,
            timezone=zone if isinstance(start, datetime) else "",
            kind=self._kind,
            location=texts.get("location", ""),
            description=texts.get("description", ""),
            url=texts.get("url", "").replace(" ", "%20"),
            uid=texts.get("uid", ""),
            reminder=self._minutes("reminder", texts, recipient),
        )

    def _end(self, start: date, texts: dict[str, str], zone: str, recipient: Recipient) -> date:
        minutes = self._minutes("minutes", texts, recipient)
        if not isinstance(start, datetime):
            if texts.get("end"):
                last, _ = self._moment("end", texts, zone, recipient)
                if isinstance(last, datetime):
                    raise row_error("A355", "the event begins with a day and ends with a time", recipient)
                return last + timedelta(days=1)  # DTEND is exclusive: the day after
            return start + timedelta(days=1)
        if texts.get("end"):
            end, _ = self._moment("end", texts, zone, recipient)
            if not isinstance(end, datetime):
                raise row_error("A355", "the event begins with a time and ends with a day", recipient)
            return end
        if minutes is None:
            hint = "write minutes = 30, or end, under `calendar`"
            raise row_error("A355", "the length of the event is not specified", recipient, hint=hint)
        if not zone:
            return start + timedelta(minutes=minutes)
        end = (start.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) + timedelta(minutes=minutes)).astimezone(
            ZoneInfo(zone)
        )
        return end.replace(tzinfo=None)

    def _moment(self, key: str, texts: dict[str, str], zone: str, recipient: Recipient) -> tuple[date, str]:
        """Read a day or a time without an offset, and return it with its time zone."""
        text = texts[key]
        moment: date | None = notation.read_moment(text)
        if moment is None:
            try:
                moment = datetime.fromisoformat(text)  # with an offset
            except ValueError:
                moment = None
            if moment is None or moment.tzinfo is None:
                name = next(iter(self._templates[key].names), "start")
                hint = _WRITE.format(name)
                raise row_error(
                    "A355",
                    f"the {key} of the event is not a date and time: {quoted(text)}",
                    recipient,
                    hint=hint,
                )
            return self._in_zone(moment, zone, recipient), zone
        if isinstance(moment, datetime):
            if not zone:
                hint = 'write timezone = "Europe/Berlin" under `calendar`'
                raise row_error("A355", "the time zone of the event is not specified", recipient, hint=hint)
            self._refuse_skipped(moment, _zone(zone, recipient), zone, recipient)
        return moment, zone

    @staticmethod
    def _in_zone(moment: datetime, zone: str, recipient: Recipient) -> datetime:
        """Convert a time with an offset to the event's zone; if it has none, to UTC."""
        return moment.astimezone(_zone(zone, recipient) if zone else UTC).replace(tzinfo=None)

    @staticmethod
    def _refuse_skipped(moment: datetime, zone: ZoneInfo, name: str, recipient: Recipient) -> None:
        """Refuse a time that clocks skip when daylight saving time begins."""
        back = moment.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None)
        if back != moment:
            message = f"{moment:%H:%M} on {moment:%Y-%m-%d} does not exist in {name}: clocks go forward then"
            raise row_error("A355", message, recipient)

    def _minutes(self, key: str, texts: dict[str, str], recipient: Recipient) -> int | None:
        text = texts.get(key)
        if not text:
            return None
        if not (text.isdecimal() and text.isascii() and int(text) <= _LONGEST):
            raise row_error(
                "A355", f"the {key} of the event are not a whole number: {quoted(text)}", recipient
            )
        return int(text)


def _cleaned(text: str, *, lines: bool) -> str:
    """Remove characters that no calendar reads; line breaks are kept only in a description."""
    text = _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))
    return text.strip() if lines else " ".join(text.split())


def _zone(name: str, recipient: Recipient) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _no_zone(name, recipient) from None


def _no_zone(name: str, recipient: Recipient) -> RowError:
    hint = "write a name of the time zone database, such as Europe/Berlin or Asia/Shanghai"
    return row_error("A355", f"the event's time zone is not known: {quoted(name)}", recipient, hint=hint)
