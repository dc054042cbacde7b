"""HTML to PDF, by WeasyPrint: the same page is the same file.

Nothing is fetched: like a message, a page shows files of the campaign's folder that its template names; any
other reference is an error, since a receipt without its logo or its style is not what was intended.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mailmerge.documents import DocumentError, Material
from mailmerge.documents.qr import picture
from mailmerge.errors import CampaignFileError
from mailmerge.message.file_search import FileProblem
from mailmerge.model import QR_CODE
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FAILURES = (
    *(ValueError, TypeError, ArithmeticError, LookupError, AttributeError, OSError),
    *(RuntimeError, AssertionError),
)
"""What WeasyPrint raises for pages that it cannot handle."""
_TYPES = {
    ".css": "text/css",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".otf": "font/otf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
"""Kinds of files that a page may show, whatever a cell names."""


def pdf_of_page(page: str, base: Path, material: Material, identifier: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a page as PDF.

    Args:
        page: HTML.
        base: the campaign's folder, to which addresses are relative.
        material: the files in it.
        identifier: the identifier of the PDF; 16 octets.

    Returns:
        The PDF, and the files that it shows, each with its SHA-256.

    Raises:
        DocumentError: it shows something that is not available.
        CampaignFileError: WeasyPrint does not find Pango (X902).

    """
    weasyprint = _weasyprint()
    shown: dict[str, str] = {}
    root = os.path.realpath(base)

    def fetch(url: str) -> tuple[bytes, str]:
        if url.startswith(QR_CODE):
            return picture(url), "image/png"
        name = _name_in(url, root)
        try:
            found = material.find(name)
        except FileProblem as problem:
            raise DocumentError(f"the page shows {quoted(name)}: {problem.message}", problem.hint) from None
        kind = _TYPES.get(os.path.splitext(name)[1].lower())  # noqa: PTH122
        if found is None:
            hint = "its path is relative to the campaign's folder; correct it, or copy the file there"
            raise DocumentError(f"the page shows {quoted(name)}, which does not exist", hint)
        if kind is None:
            hint = "pages show images (PNG, JPEG, GIF, WebP, SVG), styles (CSS) and fonts"
            raise DocumentError(f"the page shows {quoted(name)}, which is none of these", hint)
        shown[name] = found[1]
        return Path(found[0]).read_bytes(), kind

    fetcher = _fetcher(fetch)
    try:
        document = weasyprint.HTML(string=page, base_url=Path(root).as_uri() + "/", url_fetcher=fetcher)
        with _losses() as lost:
            made: bytes = document.write_pdf(pdf_identifier=identifier)
    except weasyprint.urls.FatalURLFetchingError:
        raise fetcher.refused from None
    except _FAILURES as error:
        # Its own errors: it may fail on odd pages, and no row may stop the others.
        raise DocumentError(f"WeasyPrint cannot lay it out ({type(error).__name__}: {error})") from error
    if lost:
        raise DocumentError(f"something would be missing in the page: {lost[0]}")
    return made, shown


@contextlib.contextmanager
def _losses() -> Iterator[list[str]]:
    """Collect what WeasyPrint only logs as errors: images and styles without which it continues."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                found.append(record.getMessage())

    logger, collector = logging.getLogger("weasyprint"), Collector()
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagated


def _name_in(url: str, root: str) -> str:
    """Return the name in the campaign's folder of what a page refers to."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    inside = root.rstrip("/") + "/"
    if parts.scheme == "file" and not parts.netloc and path.startswith(inside):
        return path[len(inside) :]
    hint = "copy it into the campaign's folder and refer to it there; nothing is fetched"
    raise DocumentError(f"the page shows {quoted(url)}, which is not a file of the campaign's folder", hint)


def _fetcher(fetch: Callable[[str], tuple[bytes, str]]) -> Any:
    from io import BytesIO

    from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

    class Fetcher(URLFetcher):  # type: ignore[misc]
        refused: DocumentError
        """Why the page was abandoned."""

        def fetch(self, url: str, headers: Any = None) -> Any:
            if url[:5].lower() == "data:":  # contains all of it
                return super().fetch(url, headers)
            try:
                content, kind = fetch(url)
            except DocumentError as error:
                self.refused = error
                raise FatalURLFetchingError from None  # after any other exception it would continue
            return URLFetcherResponse(url, BytesIO(content), {"Content-Type": kind})

    return Fetcher()


def _weasyprint() -> Any:
    try:
        import weasyprint
    except (OSError, ImportError) as error:
        why = str(error).splitlines()[0]
        raise CampaignFileError(
            f"PDF files made from HTML need Pango, which WeasyPrint cannot find: {why}",
            code="X902",
            hint="install it: sudo apt install libpango-1.0-0 libpangoft2-1.0-0 (Debian, Ubuntu), "
            "sudo dnf install pango (Fedora), brew install pango (macOS)",
        ) from error
    return weasyprint
