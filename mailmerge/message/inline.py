"""Inline images: local images of the HTML become parts of the message, referenced by ``cid:``.

They are searched for in ``src``, ``srcset``, ``background``, ``poster``, the VML tags that Outlook reads, and
``url()`` in style attributes and ``<style>``. Fixed chunks are rewritten once; where a tag consists of
several chunks (``<img src="{{ photo }}">``) they are joined first. Sources with a scheme are left alone,
except ``file:`` and absolute paths into the template folder, and nothing is ever fetched.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from msgspec import Struct

from mailmerge.lazy_re import lazy_re
from mailmerge.message.file_search import LONGEST_PATH, FileProblem, FileSearch
from mailmerge.model import QR_CODE
from mailmerge.text import quoted, unescaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mailmerge.message.attachments import FilePart, FileStore

_TAGS = r"(?:img|image|v:[a-z]+|input|body|table|tbody|tr|td|th|div|source|video)"
# A ">" in quotes does not end a tag. The quantifiers are possessive, so no text takes long to search.
_INSIDE = r"""(?:=\s*"[^"]*"|=\s*'[^']*'|[^>])*+"""
_REMARK = r"<!--(?!\s*\[if)(?:.*?-->|.*+\Z)"
_STYLE = r"<style(?:\s[^>]*)?>.*?</style"
_TAG = lazy_re(rf"{_REMARK}|<{_TAGS}[\s/]{_INSIDE}>", re.IGNORECASE | re.DOTALL)
_ANY_TAG = lazy_re(rf"{_REMARK}|{_STYLE}|<[a-z][a-z0-9:._-]*[\s/]{_INSIDE}>", re.IGNORECASE | re.DOTALL)
"""Where a style may refer to an image: in any tag."""
_OPEN = lazy_re(
    rf"""<{_TAGS}[\s/](?:=\s*"[^"]*"|=\s*'[^']*'|=\s*"[^"]*\Z|=\s*'[^']*\Z|[^>])*+\Z""", re.IGNORECASE
)
_OPEN_URL = lazy_re(r"<[a-z](?:[^<>]{0,4000})\burl\([^()<>]{0,4000}\Z", re.IGNORECASE)
_SOURCE = lazy_re(
    r"""((?:\s|/|(?<=["']))(src|background|srcset|poster|style|href|xlink:href)\s*=\s*)"""
    r"""("[^"]*"|'[^']*'|[^\s"'>]+)|=\s*"[^"]*"|=\s*'[^']*'""",
    re.IGNORECASE,
)
_NAME = lazy_re(r"<([a-zA-Z][\w:.-]*)")
_OF_SOME: Final = {
    "source": frozenset({"srcset"}),  # its src is a video or audio file
    "video": frozenset({"poster"}),
    "image": frozenset({"src", "href", "xlink:href"}),
    "img": frozenset({"src", "srcset", "background"}),
}
_OF_ANY: Final = frozenset({"src", "background"})
_IS_PICTURED: Final = lazy_re(rf"{_TAGS}\Z", re.IGNORECASE)
_URL: Final = lazy_re(
    r"""/\*.*?\*/|\burl\(\s*(?P<mark>"|'|&quot;|&\#0?3[49];|&\#x2[27];)?(?P<source>[^"'()]*?)(?(mark)(?P=mark))\s*\)""",
    re.IGNORECASE | re.DOTALL,
)
_STYLED = lazy_re(r"\burl\(", re.IGNORECASE)
_NO_PICTURE = lazy_re(r"\.(?:woff2?|ttf|otf|eot|css|htc)\Z", re.IGNORECASE)
_CANDIDATE = lazy_re(r"(?P<before>\A\s*|,\s*)(?P<source>[^\s,](?:\S*[^\s,])?)(?P<after>(?:\s+[^,]*)?)")
_ELSEWHERE = lazy_re(r"\s*(?:[a-zA-Z][a-zA-Z0-9+.-]*:|//|#|\Z)")
_MEANT = lazy_re(r"\Adid you mean .*\.(?:png|jpe?g|gif|webp|svg|bmp|avif)\b", re.IGNORECASE)
_DRIVE = lazy_re(r"[a-zA-Z]:[\\/]")


class _RewrittenChunk(Struct, frozen=True):
    """A rewritten chunk, and the images in it: Content-ID and path."""

    text: str
    images: dict[str, str]


class InlineImages:
    """Finds, reads and numbers the images of one campaign."""

    def __init__(
        self,
        base: Path,
        version: str,
        store: FileStore,
        static: Iterable[str] = (),
        codes: Callable[[str], str] | None = None,
    ) -> None:
        self._codes = codes
        """Returns the file of a QR code."""
        self._made: set[str] = set()
        """Files that it returned."""
        self._base = base
        self._version = version.encode()
        self._store = store
        static = tuple(static)
        self._fixed = frozenset(static)
        self._styled = any(map(_STYLED.search, static))
        self._opening = {chunk: start for chunk in static if (start := self._open_tag(chunk)) is not None}
        """By fixed chunk: where the tag begins that is open at its end."""
        self._used: dict[str, _RewrittenChunk] = {}
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
            opened = self._open_tag(pending, start)
            if opened is None:
                yield pending
                pending = ""
            else:
                start = opened
        if pending:
            yield pending

    def _open_tag(self, text: str, start: int = 0) -> int | None:
        """Return where the tag begins that is open at the end of *text*; None: no such tag after *start*."""
        if "<" not in text:
            return None
        found = _OPEN.search(text, start)
        if found is None and self._styled:
            found = _OPEN_URL.search(text, start)
            if found is None:
                lower = text.lower()
                style = lower.rfind("<style", start)
                return style if style >= 0 and "</style" not in lower[style:] else None
        return None if found is None else found.start()

    def rewrite(self, chunk: str) -> str:
        """Replace local sources in *chunk* with ``cid:`` references, and record which images it uses.

        Raises:
            FileProblem: an image is missing, unreadable or outside the template folder.

        """
        if "<" not in chunk or ("=" not in chunk and "url(" not in chunk):
            return chunk
        images: dict[str, str] = {}
        tags = _ANY_TAG if _STYLED.search(chunk) else _TAG
        rewritten = tags.sub(lambda tag: self._rewrite_tag(tag[0], images), chunk)
        if images:
            self._used[chunk] = _RewrittenChunk(rewritten, images)
            fixed = chunk in self._fixed
            parts = {name: self._part(name, path) for name, path in images.items()}
            if fixed:
                self._shared.update(parts)
        return rewritten

    def rewritten(self, chunks: Iterable[str]) -> list[str]:
        """Return the results of `rewrite` for *chunks*, all of which it has seen."""
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
        return tuple(shared.get(name) or self._part(name, path) for name, path in images.items())

    def _part(self, content_id: str, path: str) -> FilePart:
        return self._store.image(path, content_id, "qr-code.png" if path in self._made else "")

    def digests(self) -> list[str]:
        """Return the hashes of the images that fixed chunks use."""
        return sorted(part.file.sha256 for part in self._shared.values())

    def _rewrite_tag(self, tag: str, images: dict[str, str]) -> str:
        if tag.startswith("<!--"):
            return tag
        named = _NAME.match(tag)
        name = named[1].lower() if named else ""
        if name == "style":
            return self._rewrite_style(tag, images)
        allowed = _OF_SOME.get(name, _OF_ANY) if _IS_PICTURED.match(name) else frozenset()

        def changed(found: re.Match[str]) -> str:
            attribute = (found[2] or "").lower()
            if attribute == "style":
                return f"{found[1]}{self._rewrite_style(found[3], images)}"
            if attribute not in allowed:
                return found[0]
            value = found[3]
            if attribute == "srcset":
                return f"{found[1]}{self._rewrite_set(value, images)}"
            reference = self._reference(value[1:-1] if value[0] in "\"'" else value, images)
            return found[0] if reference is None else f'{found[1]}"{reference}"'

        return _SOURCE.sub(changed, tag)

    def _rewrite_style(self, style: str, images: dict[str, str]) -> str:
        def changed(found: re.Match[str]) -> str:
            source = found["source"]
            if source is None or _NO_PICTURE.search(source.partition("?")[0].partition("#")[0].strip()):
                return found[0]
            reference = self._reference(source, images)
            return found[0] if reference is None else f"url({reference})"

        return _URL.sub(changed, style)

    def _rewrite_set(self, value: str, images: dict[str, str]) -> str:
        inner = value[1:-1] if value[0] in "\"'" else value

        def changed(found: re.Match[str]) -> str:
            reference = self._reference(found["source"], images)
            return found[0] if reference is None else f"{found['before']}{reference}{found['after']}"

        rewritten = _CANDIDATE.sub(changed, inner)
        return value if rewritten == inner else f'"{rewritten}"'

    def _reference(self, source: str, images: dict[str, str]) -> str | None:
        """Return the ``cid:`` of the image that *source* names; None: it is not one of the campaign's."""
        if self._codes is not None and source.startswith(QR_CODE):
            digest = hashlib.sha256(self._version + b"\0code " + source.encode()).hexdigest()
            content_id = f"{digest[:32]}@mailmerge"
            images[content_id] = path = self._codes(source)
            self._made.add(path)
            return f"cid:{content_id}"
        local = self._local_path(source)
        if local is None:
            return None
        path = self._find(local)
        name = os.path.relpath(path, os.path.realpath(self._base)).encode("utf-8", "surrogateescape")
        content_id = hashlib.sha256(self._version + b"\0image " + name).hexdigest()[:32] + "@mailmerge"
        images[content_id] = path
        return f"cid:{content_id}"

    def _local_path(self, source: str) -> str | None:
        """Return the path that *source* denotes in the template folder; None: it leads elsewhere."""
        if "&" in source:
            source = unescaped(source)
        source = re.sub(r"[\t\r\n]+", "", source).strip()
        if source[:5].lower() == "file:":
            path = re.sub(r"^/*(?:localhost)?/+(?=[a-zA-Z]:)|^//(?:localhost)?(?=/)", "", unquote(source[5:]))
            return self._inside(path)
        if _DRIVE.match(source):
            return self._inside(source)
        if _ELSEWHERE.match(source):
            return None
        return self._inside(source) or source if source[:1] == "/" else source

    def _inside(self, path: str) -> str | None:
        """Return an absolute path relative to the template folder; None: it is outside."""
        for folder in dict.fromkeys((os.path.realpath(self._base), str(self._base.absolute()))):
            if os.path.normpath(path).startswith(folder + os.sep):
                return os.path.relpath(path, folder)
        return None

    def _find(self, source: str) -> str:
        try:
            names = dict.fromkeys((source,))
            if len(source) <= LONGEST_PATH:
                cut = unquote(source.partition("?")[0].partition("#")[0])
                names |= dict.fromkeys((cut, cut.replace("\\", "/")))
            for name in names:
                files = self._store.search.find(self._base, name, "skip", literal=True)
                if len(files) == 1:
                    return files[0]
        except FileProblem as problem:
            code, hint = problem.code, problem.hint
            if code == "A302":
                code, hint = "A311", "copy the image into the template folder"
            raise FileProblem(code, f"inline image: {problem.message}", hint) from None
        raise FileProblem(
            "A310",
            f"no image {quoted(source)} in {self._base.name or 'the template folder'}",
            self._meant(names)
            or "its path is relative to the template folder; "
            "images from the web need their full https address",
        )

    def _meant(self, names: Iterable[str]) -> str | None:
        """Return a hint at the file that was probably intended, in another case or spelling."""
        search = FileSearch()  # a hint decides nothing, and is not a fact of the plan
        for name in names:
            try:
                search.find(self._base, name, literal=True)
            except FileProblem as problem:
                if problem.hint and _MEANT.search(problem.hint):
                    return problem.hint
        return None
