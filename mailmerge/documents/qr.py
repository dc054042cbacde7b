"""QR codes as images, by segno: the same text gives the same file.

The filter ``qr`` leaves a special address in the HTML (`mailmerge.model.QR_CODE`) that contains the text; the
image for it is made here, together with the message or the page of a PDF.
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64decode
from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.documents import DocumentError, digest_of
from mailmerge.message.file_search import FileProblem
from mailmerge.model import QR_CODE
from mailmerge.version import installed_versions

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge.folders import Folder

_FORMAT = "1"
_SCALE = 8
"""Pixels per module: sharp on screens with two or three physical pixels for each."""
_QUIET = 4
"""White modules around it: ISO/IEC 18004 requires this many, and a dark mail program paints around them."""


def picture(address: str) -> bytes:
    """Return the PNG for an address of the filter.

    Raises:
        DocumentError: it is not such an address.

    """
    import segno

    try:
        text = urlsafe_b64decode(address.removeprefix(QR_CODE).encode("ascii")).decode("utf-8")
        code = segno.make_qr(text, error="m", boost_error=True)
    except (ValueError, segno.DataOverflowError):
        raise DocumentError("a QR code cannot be made from it", "write {{ value|qr }}") from None
    return b64decode(code.png_data_uri(scale=_SCALE, border=_QUIET).partition(",")[2])


class QrCodes:
    """Stores the QR codes of a campaign in its folder of made files.

    Args:
        folder: created with the first one.

    """

    def __init__(self, folder: Path) -> None:
        self._path = folder
        self._folder: Folder | None = None
        self._version = f"{_FORMAT} {installed_versions(('segno',))}"

    def path(self, address: str) -> str:
        """Return the file of the QR code for an address.

        Raises:
            FileProblem: it is not the address of a QR code.
            FileError: it cannot be stored.

        """
        if self._folder is None:
            self._folder = files.folder(self._path)
        name = f"{digest_of(self._version, address)}.png"
        if (found := self._folder.look(name)) is None or not found.st_size:
            try:
                content = picture(address)
            except DocumentError as error:
                raise FileProblem("A351", error.message, error.hint) from None
            with self._folder.replacing(name) as stream:
                stream.write(content)
        return str(self._folder.path / name)
