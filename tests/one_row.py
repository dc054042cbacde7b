"""Follows one row of a list through the program: which modules are handed it, in whatever shape."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mailmerge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

_HOME = str(Path(mailmerge.__file__).parent)
_DEPTH = 3
"""How deep a row may be in what is handed on: a settlement has an attempt, which names the row."""
_MANY = 100


class Trail:
    """The way of the row with this number.

    A module is on it when one of its functions is handed the row as an argument, or gives it back: as a
    recipient, as what was rendered from it, as a message, a job, an attempt, a settlement. The methods of
    these values are no stops, and neither is an object that merely keeps the row meanwhile.
    """

    def __init__(self, row: int) -> None:
        self._row = row
        self._ours: dict[CodeType, str | None] = {}
        self.steps: list[tuple[str, str]] = []
        """Module and function, in order."""

    def _module(self, code: CodeType) -> str | None:
        """Name the module of ours that this code is in, without parsing its path again and again."""
        if code not in self._ours:
            inside = code.co_filename.startswith(_HOME)
            name = code.co_filename[len(_HOME) + 1 :].removesuffix(".py").replace("/", ".")
            self._ours[code] = name if inside else None
        return self._ours[code]

    def _profile(self, frame: FrameType, event: str, value: Any) -> None:
        if event not in {"call", "return"}:
            return
        code = frame.f_code
        module = self._module(code)
        if module is None:
            return
        if event == "call":
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            values = [frame.f_locals.get(name) for name in names if name not in {"self", "cls"}]
        else:
            values = [value]
        if any(self._carries(one, _DEPTH) for one in values):
            self.steps.append((module, code.co_qualname))

    def _carries(self, value: Any, depth: int) -> bool:
        if not depth or value is None or isinstance(value, str | bytes | int | float):
            return False
        if isinstance(value, list | tuple):
            return len(value) <= _MANY and any(self._carries(one, depth) for one in value)
        kind = type(value)
        if not kind.__module__.startswith("mailmerge."):
            return False
        fields = getattr(kind, "__struct_fields__", None) or getattr(kind, "__slots__", None) or vars(value)
        if "row" in fields and value.row == self._row:
            return True
        return any(self._carries(getattr(value, name, None), depth - 1) for name in fields)

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow the row while this is entered; only in this thread."""
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(before)

    @property
    def modules(self) -> list[str]:
        """Name the modules on the way, in the order in which the row came to them first."""
        return list(dict.fromkeys(module for module, _ in self.steps))

    @property
    def hops(self) -> int:
        """Count how often the row went from one module to another."""
        modules = [module for module, _ in self.steps]
        return sum(one != other for one, other in pairwise(modules))

    def __str__(self) -> str:
        """Draw the way: a line for each module in a row, with the functions that were handed the row."""
        lines: list[str] = []
        before = ""
        for module, function in self.steps:
            name = function.rpartition("<locals>.")[2]
            if module != before:
                lines.append(f"{module}: {name}")
            elif not lines[-1].endswith(name):
                lines[-1] += f" > {name}"
            before = module
        return "\n".join(lines)
