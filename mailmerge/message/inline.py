"""Inline images: local ``src`` of the HTML becomes ``cid:``, and the file becomes a part of the message.

Looked for in ``<img src>``, ``background=`` and the VML tags that Outlook reads. Fixed chunks are rewritten
once; where a tag is put together from several chunks (``<img src="{{ photo }}">``) they are joined first.
Anything with a scheme is left alone, and nothing is ever fetched.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from mailmerge.message.file_search import LONGEST_PATH, FileProblem
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mailmerge.message.attachments import FilePart, FileStore

_TAGS = r"(?:img|v:[a-z]+|input|body|table|tbody|tr|td|th|div)"
# A ">" in quotes ends no tag. The quantifiers are possessive, so that no text takes long to look through.
_INSIDE = r"""(?:=\s*"[^"]*"|=\s*'[^']*'|[^>])*+"""
_TAG = re.compile(rf"<!--(?!\s*\[if)(?:.*?-->|.*+\Z)|<{_TAGS}\s{_INSIDE}>", re.IGNORECASE | re.DOTALL)
_OPEN = re.compile(
    rf"""<{_TAGS}\s(?:=\s*"[^"]*"|=\s*'[^']*'|=\s*"[^"]*\Z|=\s*'[^']*\Z|[^>])*+\Z""", re.IGNORECASE
)
_SOURCE = re.compile(
    r"""(\s(?:src|background)\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)|=\s*"[^"]*"|=\s*'[^']*'""", re.IGNORECASE
)
_ELSEWHERE = re.compile(r"\s*(?:[a-zA-Z][a-zA-Z0-9+.-]*:|//|#|\Z)")


class _Use(NamedTuple):
    """A chunk as it was rewritten, and the images in it: Content-ID and path."""

    text: str
    images: dict[str, str]


class InlineImages:
    """Finds, reads and numbers the images of one campaign."""

    def __init__(self, base: Path, version: str, store: FileStore, static: Iterable[str] = ()) -> None:
        self._base = base
        self._version = version.encode()
        self._store = store
        static = tuple(static)
        self._fixed = frozenset(static)
        self._opening = {chunk: start for chunk in static if (start := _open_tag(chunk)) is not None}
        """Where in a fixed chunk the tag begins that is open at its end."""
        self._used: dict[str, _Use] = {}
        self._shared: dict[str, FilePart] = {}

    def joined(self, chunks: tuple[str, ...]) -> tuple[str, ...]:
        """Return *chunks* with every image tag in one piece."""
        if not self._opening or self._opening.keys().isdisjoint(chunks):
            return chunks
        return tuple(self._whole_tags(chunks))

    def _whole_tags(self, chunks: tuple[str, ...]) -> Iterator[str]:
        pending, start = "", 0
        for chunk in chunks:
            if pending:
                pending += str.__str__(chunk)
            elif chunk in self._opening:
                pending, start = chunk, self._opening[chunk]
            else:
                yield chunk
                continue
            opened = _open_tag(pending, start)
            if opened is None:
                yield pending
                pending = ""
            else:
                start = opened
        if pending:
            yield pending

    def rewrite(self, chunk: str) -> str:
        """Replace local sources in *chunk* by ``cid:`` references, and remember which images it uses.

        Raises:
            FileProblem: an image is missing, unreadable or outside the template folder.

        """
        if "=" not in chunk or "<" not in chunk:
            return chunk
        images: dict[str, str] = {}
        rewritten = _TAG.sub(lambda tag: self._rewrite_tag(tag[0], images), chunk)
        if images:
            self._used[chunk] = _Use(rewritten, images)
            fixed = chunk in self._fixed
            parts = {name: self._store.image(path, name) for name, path in images.items()}
            if fixed:
                self._shared.update(parts)
        return rewritten

    def rewritten(self, chunks: Iterable[str]) -> list[str]:
        """Return *chunks*, all known to `rewrite`, as it left them."""
        used = self._used
        return [used[chunk].text if chunk in used else chunk for chunk in chunks]

    def forget(self) -> None:
        """Drop the chunks that are not fixed."""
        self._used = {chunk: use for chunk, use in self._used.items() if chunk in self._fixed}

    def parts(self, chunks: Iterable[str]) -> tuple[FilePart, ...]:
        """Return the images that the (joined) chunks of a message use, each once."""
        if not self._used:
            return ()
        used, shared = self._used, self._shared
        images: dict[str, str] = {}
        for use in [used[chunk] for chunk in chunks if chunk in used]:
            images.update(use.images)
        return tuple(shared.get(name) or self._store.image(path, name) for name, path in images.items())

    def digests(self) -> list[str]:
        """Return the hashes of the images that fixed texts use."""
        return sorted(part.file.sha256 for part in self._shared.values())

    def _rewrite_tag(self, tag: str, images: dict[str, str]) -> str:
        if tag.startswith("<!--"):
            return tag
        return _SOURCE.sub(
            lambda found: found[1] + self._reference(found[2], images) if found[1] else found[0], tag
        )

    def _reference(self, attribute: str, images: dict[str, str]) -> str:
        source = (attribute[1:-1] if attribute[0] in "\"'" else attribute).strip()
        if "&" in source:
            from html import unescape

            source = unescape(source).strip()
        if _ELSEWHERE.match(source):
            return attribute
        path = self._find(source)
        name = os.path.relpath(path, os.path.realpath(self._base)).encode("utf-8", "surrogateescape")
        content_id = hashlib.sha256(self._version + b"\0image " + name).hexdigest()[:32] + "@mailmerge"
        images[content_id] = path
        return f'"cid:{content_id}"'

    def _find(self, source: str) -> str:
        try:
            names = dict.fromkeys((source,))
            if len(source) <= LONGEST_PATH:
                names[unquote(source.partition("?")[0].partition("#")[0])] = None
            for name in names:
                files = self._store.search.find(self._base, name, "skip", literal=True)
                if len(files) == 1:
                    return files[0]
        except FileProblem as problem:
            code = "A311" if problem.code == "A302" else problem.code
            raise FileProblem(code, f"inline image: {problem.message}", problem.hint) from None
        raise FileProblem(
            "A310",
            f"no image {quoted(source)} in {self._base.name or 'the template folder'}",
            "its path is relative to the template folder; images from the web need their full https address",
        )


def _open_tag(text: str, start: int = 0) -> int | None:
    """Say where the tag begins that is open at the end of *text*; None: there is none from *start* on."""
    found = _OPEN.search(text, start) if "<" in text else None
    return None if found is None else found.start()
