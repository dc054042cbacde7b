"""The container of old Office files: streams in chains of sectors, as in a file system ([MS-CFB]).

A chain in a hostile file may be a cycle: each is followed for at most as many sectors as the file has.
"""

from __future__ import annotations

import struct

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HEADER = struct.Struct("<30xHH14xI4xII4xI")
_HEADER_SIZE = 512
_IN_HEADER = 109
"""Number of sectors of the allocation table that the header lists."""
_END = 0xFFFFFFFA
"""Sector numbers from here on are markers: free, end of chain."""
_ENTRY = struct.Struct("<64sHBB12x16x4x8x8xIQ")
_ENTRY_SIZE = 128
_STREAM, _ROOT = 2, 5


class CompoundFile:
    """A container file with named streams.

    Args:
        content: the bytes of the whole file.

    Raises:
        ValueError, struct.error: it is damaged.

    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        shift, mini_shift, directory, self._least, mini, more = _HEADER.unpack_from(content)
        if shift not in (9, 12) or mini_shift > shift:
            raise ValueError("its sector size is not valid")
        self._size, self._mini_size = 1 << shift, 1 << mini_shift
        self._table = self._read_table(more)
        self._mini_table = _numbers(self._chain(mini))
        self._entries: dict[str, tuple[int, int]] = {}
        root = None
        entries = self._chain(directory)
        for at in range(0, len(entries) - _ENTRY_SIZE + 1, _ENTRY_SIZE):
            raw, length, kind, _, start, size = _ENTRY.unpack_from(entries, at)
            if kind == _ROOT:
                root = start
            elif kind == _STREAM:
                name = raw[: max(length - 2, 0)].decode("utf-16-le", "replace")
                self._entries.setdefault(name.lower(), (start, size & 0xFFFFFFFF))
        self._mini = b"" if root is None else self._chain(root)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._entries

    def read(self, name: str) -> bytes:
        """Return the content of a stream.

        Raises:
            ValueError: it does not exist, or is shorter than its entry states.

        """
        start, size = self._entries.get(name.lower(), (_END, 0))
        if size < self._least:
            content = _follow(self._mini, self._mini_table, start, self._mini_size, 0)
        else:
            content = self._chain(start)
        if len(content) < size or not size:
            raise ValueError(f"the stream {name} is incomplete")
        return content[:size]

    def _chain(self, start: int) -> bytes:
        return _follow(self._content, self._table, start, self._size, self._size)

    def _read_table(self, more: int) -> tuple[int, ...]:
        """Read the allocation table: its sectors are listed in the header, and in further sectors."""
        sectors = list(_numbers(self._content[_HEADER_SIZE - 4 * _IN_HEADER : _HEADER_SIZE]))
        most = len(self._content) // self._size + 1
        for _ in range(most):
            if more >= _END:
                break
            *named, more = _numbers(self._sector(more))
            sectors += named
        table = [number for at in sectors[:most] if at < _END for number in _numbers(self._sector(at))]
        return tuple(table)

    def _sector(self, at: int) -> bytes:
        begin = self._size * (at + 1)
        found = self._content[begin : begin + self._size]
        if len(found) < self._size:
            raise ValueError("a sector is missing")
        return found


def _numbers(content: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(content) // 4}I", content[: len(content) // 4 * 4])


def _follow(content: bytes, table: tuple[int, ...], at: int, size: int, first: int) -> bytes:
    """Join the sectors of a chain; *first* is where sector 0 begins."""
    found: list[bytes] = []
    while at < _END:
        if at >= len(table) or len(found) > len(table):
            raise ValueError("a chain of sectors never ends")
        found.append(content[first + at * size : first + (at + 1) * size])
        at = table[at]
    return b"".join(found)
