"""The maker of a campaign's documents: one file for each distinct output of a row's template, made once.

A file is named by the digest of all its inputs: the template's output for the row, the files that it shows,
the password, and the versions of the programs that make it. So the same row has the same file in all plans,
the files of an interrupted plan serve the next one, and no other record is needed. What a page shows is known
only after it was made: a list of that, with digests, is stored next to the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from mailmerge import extras, files
from mailmerge.documents import DocumentError, digest_of
from mailmerge.errors import AttachmentError, FileError, RowError
from mailmerge.message.attachments import FileStore
from mailmerge.message.file_search import FileProblem
from mailmerge.text import HALF_A_CHARACTER, LONE_SURROGATE
from mailmerge.version import installed_versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mailmerge.documents.typesetting import Typesetter
    from mailmerge.file_system import FileSystem, PrivateFiles
    from mailmerge.folders import Folder
    from mailmerge.model import AttachmentRule, Rendered, RenderedDocument

_FORMAT = "1"
"""Version of this maker: it changes if the same template would make a different file."""
_LARGEST_LIST = 1 << 20
_EXTRAS = {".html": "pdf", ".htm": "pdf", ".typ": "typst"}
_NEED_IT = {"pdf": "PDF files made from HTML", "typst": "PDF files made by Typst"}
_SHOWN = ".shown"
"""The end of the name of the list of a page's files."""


class MadeFile(NamedTuple):
    """A file that was made for a row."""

    path: str
    name: str
    """The name that the message shows."""


class DocumentMaker:
    """Makes the documents of one campaign.

    Args:
        folder: where they are kept; created with the first one.
        rules: the campaign's ``[[attach]]`` tables.
        base: the campaign's folder; nothing outside it is shown.
        files: how its files are examined.
        own: which of them must not be shown.

    Raises:
        CampaignFileError: an extra is not installed (X902).
        AttachmentError: a template shows a file that cannot be shown, or would not produce the same output
            each time.

    """

    def __init__(
        self, folder: Path, rules: Sequence[AttachmentRule], base: Path, files: FileSystem, own: PrivateFiles
    ) -> None:
        self._folder_path = folder
        self._folder: Folder | None = None
        self._base = base
        self._store = FileStore(files, own)
        self._rules = rules
        self.extras = _required(rules)
        """The extras that it requires."""
        used = {one: told for name in self.extras for one, told in extras.EXTRAS[name].distributions.items()}
        self._versions = json.dumps([_FORMAT, installed_versions(used)])
        self._typesetters = {
            index: self._typesetter(rule, rule.template)
            for index, rule in enumerate(rules)
            if rule.template is not None and rule.template.suffix.lower() == ".typ"
        }
        self.digest = digest_of(*(setter.digest for setter in self._typesetters.values()))
        """A digest that changes with the files that Typst templates show."""
        self.seconds = 0.0
        """Seconds that making has taken so far."""
        self.rows = 0
        """Number of rows for which files were made, not found."""

    def _typesetter(self, rule: AttachmentRule, template: Path) -> Typesetter:
        from mailmerge.documents.typesetting import Typesetter

        try:
            return Typesetter(template, self._base, self)
        except DocumentError as error:
            place = error.place or rule.place
            raise AttachmentError(error.message, code="A351", hint=error.hint, place=place) from None

    def find(self, name: str) -> tuple[str, str] | None:
        """Return path and SHA-256 of a file of the campaign's folder, see `Material`."""
        looked_for = self._store.files.looking_for(None)  # every row may show it
        try:
            found = self._store.search.find(self._base, name, "skip", literal=True)
            if len(found) != 1:
                return None
            return found[0], self._store.attachment(found[0], name).file.sha256
        finally:
            self._store.files.looking_for(looked_for)

    def make(self, rendered: Rendered) -> dict[int, MadeFile]:
        """Return the files of a row by the number of their rule, made now or found from before.

        Raises:
            RowError: the row's data cannot become a document.
            CampaignFileError: the program that makes them cannot be used on this machine (X902).
            FileError: they cannot be stored.

        """
        made, before = {}, self.seconds
        for attachment in rendered.attachments:
            if attachment.document is None:
                continue
            try:
                if re.search(
                    LONE_SURROGATE, f"{attachment.document.content}{attachment.document.password or ''}"
                ):
                    raise DocumentError(f"it contains {HALF_A_CHARACTER}")  # noqa: TRY301
                path = self._made(attachment.rule, attachment.document, attachment.path)
            except (DocumentError, FileProblem) as error:
                raise RowError(
                    f"{attachment.path} cannot be made: {error.message}",
                    code="A351",
                    hint=error.hint,
                    place=error.place or self._rules[attachment.rule].place,
                    row=rendered.recipient.row,
                ) from None
            made[attachment.rule] = MadeFile(str(path), attachment.path)
        self.rows += self.seconds > before
        return made

    def _made(self, rule: int, document: RenderedDocument, name: str) -> Path:
        setter = self._typesetters.get(rule)
        said = (document.kind, document.content, document.password or "")
        digest = digest_of(self._versions, setter.digest if setter else "", *said)
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
        folder = self._open()
        if document.kind == "html":
            return self._made_page(folder, document, digest)
        if not _has(folder, digest + suffix):
            began = time.monotonic()
            if setter is not None:
                content = _locked(setter.pdf(document.content), document)
            else:
                content = document.content.encode("utf-8")
            self._keep(folder, digest + suffix, content, began)
        return folder.path / (digest + suffix)

    def _made_page(self, folder: Folder, document: RenderedDocument, digest: str) -> Path:
        """Return the PDF of a page, which is the same only if all files that it shows are."""
        with contextlib.suppress(ValueError):
            shown = json.loads(folder.content(digest + _SHOWN, _LARGEST_LIST) or b"null")
            if isinstance(shown, dict) and all(self._is_same(one, sha) for one, sha in shown.items()):
                name = f"{digest_of(digest, json.dumps(shown, sort_keys=True))}.pdf"
                if _has(folder, name):
                    return folder.path / name
        from mailmerge.documents.pages import pdf_of_page

        began = time.monotonic()
        content, shown = pdf_of_page(document.content, self._base, self, bytes.fromhex(digest[:32]))
        name = f"{digest_of(digest, json.dumps(shown, sort_keys=True))}.pdf"
        self._keep(folder, name, _locked(content, document), began)
        self._keep(folder, digest + _SHOWN, json.dumps(shown, sort_keys=True).encode(), None)
        return folder.path / name

    def _is_same(self, name: str, sha256: str) -> bool:
        try:
            found = self.find(name)
        except FileProblem:
            return False
        return found is not None and found[1] == sha256

    def _keep(self, folder: Folder, name: str, content: bytes, began: float | None) -> None:
        with folder.replacing(name) as stream:
            stream.write(content)
        if began is not None:
            self.seconds += time.monotonic() - began

    def _open(self) -> Folder:
        if self._folder is None:
            try:
                self._folder = files.folder(self._folder_path)
            except FileError as error:
                error.hint = error.hint or "set MAILMERGE_CACHE_DIR to a folder that you may write to"
                raise
        return self._folder


def _required(rules: Iterable[AttachmentRule]) -> tuple[str, ...]:
    """Return the extras that rules require.

    Raises:
        CampaignFileError: one is not installed.

    """
    found: dict[str, None] = {}
    for rule in rules:
        name = _EXTRAS.get(rule.template.suffix.lower()) if rule.template is not None else None
        if name is not None:
            extras.require(name, _NEED_IT[name], place=rule.place)
            found[name] = None
    return tuple(found)


def _has(folder: Folder, name: str) -> bool:
    """Return whether a file was made; a power cut may have left an empty one."""
    found = folder.look(name)
    return found is not None and found.st_size > 0


def _locked(content: bytes, document: RenderedDocument) -> bytes:
    if document.password is None:
        return content
    from mailmerge.documents.passwords import locked

    return locked(content, document.password)
