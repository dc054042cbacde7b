"""How much is measured, and where the peers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """The short way or the long one."""

    folder: Path
    """For everything made on the way."""
    python: Path
    """The environment with ours and most peers."""
    rival: Path
    """The environment with awdeorio's mailmerge, whose import name is ours."""
    modules: Path
    """Where nodemailer and nunjucks are."""
    node: bool
    quick: bool

    @property
    def rtts(self) -> tuple[int, ...]:
        """Round-trip times in milliseconds."""
        return (0, 50) if self.quick else (0, 20, 50, 100)

    @property
    def seconds(self) -> float:
        """How long one client sends."""
        return 1.0 if self.quick else 4.0

    @property
    def build_seconds(self) -> float:
        """How long the builders of one kind of message take turns."""
        return 1.5 if self.quick else 15.0

    @property
    def throttle_seconds(self) -> float:
        """How long a pace is watched."""
        return 3.0 if self.quick else 10.0

    @property
    def run_rows(self) -> int:
        """Rows of a whole run."""
        return 2_000 if self.quick else 10_000

    @property
    def memory_rows(self) -> tuple[int, int]:
        """The short list and the long one."""
        return (10_000, 50_000) if self.quick else (10_000, 1_000_000)
