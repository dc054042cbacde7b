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

from mailmerge.message.file_search import FileProblem
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mailmerge.message.attachments import FilePart, FileStore

_TAGS = r"(?:img|v:[a-z]+|input|body|table|tbody|tr|td|th|div)"
_TAG = re.compile(rf"<!--(?!\s*\[if).*?-->|<{_TAGS}\s[^>]*>", re.IGNORECASE | re.DOTALL)
_OPEN = re.compile(rf"<{_TAGS}\s[^<>]*\Z", re.IGNORECASE)
_SOURCE = re.compile(r"""(\s(?:src|background)\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)""", re.IGNORECASE)
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
        self._opening = frozenset(chunk for chunk in static if _opens(chunk))
        self._used: dict[str, _Use] = {}
        self._shared: dict[str, FilePart] = {}

    def joined(self, chunks: tuple[str, ...]) -> tuple[str, ...]:
        """Return *chunks* with every image tag in one piece."""
        if not self._opening or self._opening.isdisjoint(chunks):
            return chunks
        return tuple(self._whole_tags(chunks))

    def _whole_tags(self, chunks: tuple[str, ...]) -> Iterator[str]:
        pending = ""
        for chunk in chunks:
            if pending:
                pending += str.__str__(chunk)
            elif chunk in self._opening:
                pending = chunk
            else:
                yield chunk
                continue
            if not _opens(pending):
                yield pending
                pending = ""
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
            parts = {
                content_id: self._store.image(path, content_id, named_by_author=fixed)
                for content_id, path in images.items()
            }
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
        return _SOURCE.sub(lambda found: found[1] + self._reference(found[2], images), tag)

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
            names = dict.fromkeys((source, unquote(source.partition("?")[0].partition("#")[0])))
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


def _opens(text: str) -> bool:
    return bool(_OPEN.search(text, max(0, text.rfind("<"))))
