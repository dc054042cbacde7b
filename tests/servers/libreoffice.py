"""LibreOffice without a window: what it makes of a workbook, in a profile of its own."""

from __future__ import annotations

import csv
import subprocess
from typing import TYPE_CHECKING

from servers.programs import require, unmeasured

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

AS_SHOWN = "44,34,76,1,,0,false,true,true,false"
"""Comma, quotes where they are needed, UTF-8, from row 1, cells as they are shown, no formulas."""


class LibreOffice:
    """Converts files; starting it takes a second, so pass it all files together."""

    def __init__(self, folder: Path) -> None:
        self._program = require("soffice")
        self._folder = folder

    def convert(self, paths: Sequence[Path], kind: str, folder: Path) -> list[Path]:
        """Save each of the files as *kind* (``xlsx``, ``ods``) in *folder*, under the same stem."""
        command = [
            self._program,
            "--headless",
            "--norestore",
            f"-env:UserInstallation={(self._folder / 'profile').as_uri()}",
            "--convert-to",
            kind,
            "--outdir",
            str(folder),
            *map(str, paths),
        ]
        done = subprocess.run(command, capture_output=True, timeout=180, check=False, env=unmeasured())
        suffix = kind.partition(":")[0]
        made = [folder / f"{path.stem}.{suffix}" for path in paths]
        assert all(path.exists() for path in made), done.stderr.decode("utf-8", "replace")
        return made

    def as_shown(self, paths: Sequence[Path], folder: Path) -> list[list[list[str]]]:
        """Return the rows of the first sheet of each file, every cell as it is shown."""
        found = []
        for path in self.convert(paths, f"csv:Text - txt - csv (StarCalc):{AS_SHOWN}", folder):
            with path.open(encoding="utf-8", newline="") as file:
                found.append(list(csv.reader(file)))
        return found
