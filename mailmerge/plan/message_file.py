"""The file of a plan's frozen messages: one frame for each, found by its place and length.

A frame is a letter and what it announces::

    P  CRC-32 (4 octets, big-endian), the encoded message
    Z  a zstd frame of the encoded message with zstd's own checksum, the first frame being its dictionary

The encoded message contains its key. The messages of one campaign differ little, so each needs some hundred
octets; the first `PLAIN` are not compressed, because most lists are short and the import costs more than
compression would save.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN = 200
HEADER = b"mailmerge messages 1\n"
TOKEN = 16
"""Octets after the header that identify the plan of a file."""
_LEVEL = 1
_LONGEST_DICTIONARY = 1 << 20
PLAIN_KIND = b"P"
_ZSTD_KIND = b"Z"


class BadFrame(ValueError):
    """A frame is not what was written."""


class MessageFileWriter:
    """Writes frames; *stream* is an empty file, *token* identifies its plan."""

    def __init__(self, stream: BinaryIO, token: bytes) -> None:
        self._write = stream.write
        self._write(HEADER + token)
        self.size = len(HEADER) + len(token)
        self._count = 0
        self._first = b""
        self._plain_size = 0
        self._compress: Callable[[bytes], bytes] | None = None

    @property
    def pace(self) -> float:
        """About how many octets another frame takes."""
        frames = self._count - PLAIN
        return (self.size - self._plain_size) / frames if frames > 0 else self.size / max(self._count, 1)

    @property
    def dictionary(self) -> bytes | None:
        """What `compressor` needs to make the next frame; None: it must not be compressed."""
        return self._first if self._count >= PLAIN else None

    def add(self, encoded: bytes) -> tuple[int, int]:
        """Add a frame; return its place and its length."""
        if self._count < PLAIN:
            frame = plain(encoded)
            if not self._count:
                self._first = frame
        else:
            if self._compress is None:
                self._compress = compressor(self._first)
            frame = compressed(self._compress, encoded)
        return self.add_frame(frame)

    def add_frame(self, frame: bytes) -> tuple[int, int]:
        """Add a frame that was made elsewhere; return its place and its length."""
        if self._count == PLAIN:
            self._plain_size = self.size
        self._count += 1
        place = self.size
        self._write(frame)
        self.size += len(frame)
        return place, len(frame)


class MessageFileReader:
    """Reads frames; closes *stream* when it is closed.

    Args:
        stream: the file.
        token: identifies the plan that it must belong to.
        size: how long it must be.
        first: place and length of the first frame; None: there is none.

    Raises:
        BadFrame: it is another one, or not whole.
        OSError: it cannot be read.

    """

    def __init__(self, stream: BinaryIO, token: bytes, size: int, first: tuple[int, int] | None) -> None:
        self._stream = stream
        self._first = first
        self._frames = FrameReader(self._first_frame)
        if stream.read(len(HEADER) + TOKEN) != HEADER + token or stream.seek(0, 2) != size:
            raise BadFrame("it is not the file that was written with the plan")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def read(self, place: int, length: int, octets: int) -> bytes:
        """Return what was encoded.

        Args:
            place: where the frame begins.
            length: how long it is.
            octets: how long the encoded message is; nothing longer is unpacked.

        Raises:
            BadFrame: it is damaged.
            OSError: it cannot be read.

        """
        return self._frames.unpack(self.frame(place, length), octets)

    def frame(self, place: int, length: int) -> bytes:
        """Return a frame unchanged.

        Raises:
            OSError: it cannot be read.

        """
        self._stream.seek(place)
        return self._stream.read(length)

    def _first_frame(self) -> bytes | None:
        return None if self._first is None else self.frame(*self._first)


class FrameReader:
    """Unpacks frames of one plan, wherever they are kept.

    Args:
        dictionary: returns the first one when it is needed; None: there is none.

    """

    def __init__(self, dictionary: Callable[[], bytes | None]) -> None:
        self._dictionary = dictionary
        self._decompress: Callable[..., bytes] | None = None

    def unpack(self, frame: bytes, octets: int) -> bytes:
        """Return what was encoded.

        Args:
            frame: it, as it was written.
            octets: how long the encoded message is; nothing longer is unpacked.

        Raises:
            BadFrame: it is damaged.
            OSError: the first one cannot be read.

        """
        if frame[:1] == _ZSTD_KIND:
            encoded = self._unzip(frame[1:], octets)
        else:
            encoded = frame[5:]
            if frame[:5] != PLAIN_KIND + zlib.crc32(encoded).to_bytes(4, "big"):
                raise BadFrame("the checksum is wrong")
        if len(encoded) != octets:
            raise BadFrame("it is incomplete")
        return encoded

    def _unzip(self, packed: bytes, octets: int) -> bytes:
        import zstandard

        if self._decompress is None:
            first = self._dictionary()
            if first is None:
                raise BadFrame("it has no first message")
            self._decompress = zstandard.ZstdDecompressor(dict_data=_dictionary(first)).decompress
        try:
            return self._decompress(packed, max_output_size=octets)
        except zstandard.ZstdError as error:
            raise BadFrame(str(error)) from error


def plain(encoded: bytes) -> bytes:
    """Make the frame of an encoded message that is not compressed."""
    return PLAIN_KIND + zlib.crc32(encoded).to_bytes(4, "big") + encoded


def compressed(compress: Callable[[bytes], bytes], encoded: bytes) -> bytes:
    """Make the frame of an encoded message."""
    return _ZSTD_KIND + compress(encoded)


def compressor(first: bytes) -> Callable[[bytes], bytes]:
    """Return what compresses the messages of a plan whose first frame this is."""
    import zstandard

    dictionary = _dictionary(first)
    dictionary.precompute_compress(level=_LEVEL)
    # Without its size in the frame, a damaged one cannot make us reserve more than the message had.
    return zstandard.ZstdCompressor(
        level=_LEVEL, dict_data=dictionary, write_checksum=True, write_content_size=False
    ).compress


def _dictionary(first: bytes) -> Any:
    import zstandard

    return zstandard.ZstdCompressionDict(
        first[:_LONGEST_DICTIONARY], dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )
