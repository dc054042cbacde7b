"""One table of everything measured, and the goals with what came of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COLUMNS = {
    "ours": "ours",
    "window": "ours, window",
    "stdlib": "stdlib",
    "django": "Django",
    "rival": "mailmerge",
    "redmail": "redmail",
    "nodemailer": "nodemailer",
    "aiosmtplib": "aiosmtplib",
    "smtp-source": "smtp-source",
}
"""``stdlib`` is email.message in builds and smtplib in sessions; ``mailmerge`` is awdeorio's."""


@dataclass(frozen=True)
class Goal:
    """One goal: what was reached, what was wanted, and in which direction it is better."""

    what: str
    reached: float
    wanted: float
    at_most: bool
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.reached <= self.wanted if self.at_most else self.reached >= self.wanted

    def __str__(self) -> str:
        relation = "at most" if self.at_most else "at least"
        figures = f"{_plain(self.reached)}{self.unit} (goal: {relation} {_plain(self.wanted)}{self.unit})"
        if self.met:
            return f"reached: {self.what}: {figures}"
        gap = abs(self.reached - self.wanted)
        return f"missed by {_plain(gap)}{self.unit}: {self.what}: {figures}"


@dataclass
class Part:
    """What one part of the measurement found."""

    run: str
    """When and on what."""
    sections: dict[str, dict[str, dict[str, float | str]]] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Results:
    """What was measured, part by part; parts of earlier runs stay until they are measured again."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._measured: set[str] = set()
        self._present = Part("")

    def begin(self, name: str, run: str) -> None:
        """Start a part from scratch."""
        self._measured.add(name)
        self._parts[name] = self._present = Part(run)

    def put(self, section: str, what: str, column: str, value: float | str) -> None:
        """Enter one figure."""
        self._present.sections.setdefault(section, {}).setdefault(what, {})[column] = value

    def get(self, section: str, what: str, column: str) -> float | None:
        """Look one up; None: it was not measured."""
        for part in self._parts.values():
            value = part.sections.get(section, {}).get(what, {}).get(column)
            if isinstance(value, float | int):
                return value
        return None

    def at_most(self, what: str, reached: float | None, wanted: float, unit: str = "") -> None:
        """Judge a figure that should be small."""
        if reached is not None:
            self._present.goals.append(Goal(what, reached, wanted, at_most=True, unit=unit))

    def at_least(self, what: str, reached: float | None, wanted: float, unit: str = "") -> None:
        """Judge a figure that should be large."""
        if reached is not None:
            self._present.goals.append(Goal(what, reached, wanted, at_most=False, unit=unit))

    def note(self, text: str) -> None:
        """Remember what the reader must know."""
        self._present.notes.append(text)

    def save(self, path: Path) -> None:
        """Write everything as JSON, keeping what another run may have put there meanwhile."""
        self.load(path)
        found = {name: asdict(part) for name, part in self._parts.items()}
        path.write_text(json.dumps(found, indent=1), "utf-8")

    def load(self, path: Path) -> None:
        """Take over what other runs have saved of parts that were not measured in this one."""
        if not path.exists():
            return
        for name, part in json.loads(path.read_text("utf-8")).items():
            if name not in self._measured:
                goals = [Goal(**goal) for goal in part["goals"]]
                self._parts[name] = Part(part["run"], part["sections"], goals, part["notes"])

    def markdown(self, order: Iterable[str]) -> str:
        """Return table, goals and notes of all parts, in this order."""
        parts = [self._parts[name] for name in order if name in self._parts]
        found = {name: rows for part in parts for name, rows in part.sections.items()}
        used = {column for rows in found.values() for cells in rows.values() for column in cells}
        columns = [column for column in COLUMNS if column in used]
        lines = [["", *(COLUMNS[column] for column in columns)]]
        for section, rows in found.items():
            lines.append([f"**{section}**", *("" for _ in columns)])
            for what, cells in rows.items():
                lines.append([what, *(_shown(cells.get(column)) for column in columns)])
        runs = dict.fromkeys(part.run for part in parts)
        shown = [*runs, "", _aligned(lines), "", *(f"- {goal}" for part in parts for goal in part.goals)]
        shown += ["", *(f"- {note}" for note in dict.fromkeys(note for part in parts for note in part.notes))]
        return "\n".join(shown).rstrip() + "\n"


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]

    def row(cells: Iterable[str]) -> str:
        shown = [
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(shown)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([row(lines[0]), row(rule), *(row(line) for line in lines[1:])])


def _shown(value: float | str | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _plain(value)


def _plain(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"
