"""A worker, which makes rows for the planner: ``python -P -m mailmerge.plan.worker_program``.

It receives its work on standard input and answers on standard output, in frames: four octets with the length,
then what msgspec encodes. First comes the `Setup`, which it answers with the campaign's version when it is
ready; then chunks, each answered by its result, or by an empty frame if it raised an error: the planner then
makes the chunk again and meets the error itself. An empty frame asks for the paths that were looked at. The
worker ends with its input. It has no account and no secret.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import Struct
from msgspec.structs import asdict

from mailmerge.check.lint import KnownLayout  # noqa: TC001  a setup is decoded into them
from mailmerge.model import AttachmentRule, Columns, Place
from mailmerge.plan.composer import Composer, Recipe
from mailmerge.plan.path_log import LookedAtPaths, PathLog
from mailmerge.plan.rows import Chunk, ChunkMaker, PackedChunk
from mailmerge.plan.sqlite_store import Form
from mailmerge.render import MessageTemplates, TemplateSource
from mailmerge.render.sources import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = 4
"""Octets for the length of a frame."""
OUT_OF_MEMORY = 3
"""The exit code of a worker that ran out of memory."""
FAILED = b"\x00"
"""The answer to a chunk that raised an error."""

CHUNK = Form(Chunk)
PACKED = Form(PackedChunk)
LOOKED_AT = Form(LookedAtPaths)


class Setup(Struct, frozen=True):
    """What a worker needs to know about the campaign; made by `setup`."""

    recipe: dict[str, Any]
    headings: tuple[str, ...]
    names: tuple[str, ...]
    list_name: str
    dictionary: bytes
    layouts: tuple[KnownLayout, ...] = ()
    """What need not be checked again."""


SETUP = Form(Setup)


def frame(content: bytes) -> bytes:
    """Put the length before it."""
    return len(content).to_bytes(HEAD, "big") + content


def setup(
    recipe: Recipe,
    columns: Columns,
    list_name: str,
    dictionary: bytes,
    layouts: tuple[KnownLayout, ...] = (),
) -> bytes:
    """Return the first frame's content."""
    made = _plain(recipe)
    return SETUP.encode(Setup(made, columns.headings, columns.names, list_name, dictionary, layouts))


_WRITERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (Path, lambda path: {"path": os.fsencode(path).hex()}),
    (Decimal, lambda number: {"decimal": str(number)}),
    (datetime, lambda moment: {"datetime": moment.isoformat()}),
    (date, lambda day: {"date": day.isoformat()}),
    (time, lambda hour: {"time": hour.isoformat()}),
    (Struct, lambda struct: _plain(asdict(struct))),
    (Mapping, lambda table: {"table": [[name, _plain(item)] for name, item in table.items()]}),
    ((tuple, list), lambda items: [_plain(item) for item in items]),
)


def _plain(value: Any) -> Any:
    """Turn what is not a string, a number or a boolean into a distinguishable combination of them."""
    if isinstance(value, int) and value.bit_length() > 63:
        return {"int": str(value)}
    return next((write(value) for kind, write in _WRITERS if isinstance(value, kind)), value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "path": lambda text: Path(os.fsdecode(bytes.fromhex(text))),
    "decimal": Decimal,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "time": time.fromisoformat,
    "int": int,
    "table": lambda pairs: {name: _read(item) for name, item in pairs},
}


def _read(value: Any) -> Any:
    """Turn it back; arrays become tuples."""
    if isinstance(value, dict):
        [(kind, content)] = value.items()
        return _READERS[kind](content)
    return tuple(map(_read, value)) if isinstance(value, list | tuple) else value


def read_recipe(made: dict[str, Any]) -> Recipe:
    """Read the recipe of a `Setup`."""
    table = _read(made)
    templates = table["templates"]
    for part in ("text", "html"):
        if templates[part] is not None:
            templates[part] = TemplateSource(**templates[part])
    if templates["layout"] is not None:
        source, variables = templates["layout"]["source"], templates["layout"]["variables"]
        templates["layout"] = Layout(TemplateSource(**source), variables)
    templates["places"] = {name: Place(**place) for name, place in templates["places"].items()}
    templates["attachments"] = tuple(
        AttachmentRule(**{**rule, "place": rule["place"] and Place(**rule["place"])})
        for rule in templates["attachments"]
    )
    return Recipe(**{**table, "templates": MessageTemplates(**templates)})


def serve(orders: BinaryIO, answer: Callable[[bytes], object]) -> None:
    """Do the work in *orders* until they end.

    Raises:
        MailmergeError: the templates do not compile any more.

    """
    frames = _frames(orders)
    first = next(frames, None)
    if first is None:
        return
    wanted = SETUP.decode(first)
    columns, log = Columns(wanted.headings, wanted.names), PathLog()
    composer = Composer(read_recipe(wanted.recipe), columns, list_name=wanted.list_name, files=log)
    lint = composer.lint()
    lint.recall(wanted.layouts)
    maker = ChunkMaker(composer, lint, wanted.dictionary)
    answer(frame(composer.version.encode("ascii")))
    for content in frames:
        if not content:
            answer(frame(LOOKED_AT.encode(log.looked_at())))
            continue
        chunk = CHUNK.decode(content)
        try:
            made = maker.make(chunk.placed(columns))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  whoever gave the chunk away meets it again
            answer(frame(FAILED))
        else:
            answer(frame(PACKED.encode(made)))


def _frames(orders: BinaryIO) -> Iterator[bytes]:
    while len(head := orders.read(HEAD)) == HEAD:
        content = orders.read(length := int.from_bytes(head, "big"))
        if len(content) < length:
            return
        yield content


def main() -> int:
    """Serve the process that started this one."""
    for name in ("SIGINT", "SIGHUP"):  # that process decides, and closes our input
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing that is printed may get between the frames
    with contextlib.suppress(BrokenPipeError), os.fdopen(own, "wb", buffering=0) as answers:
        try:
            serve(sys.stdin.buffer, lambda content: _write(answers, content))
        except MemoryError:
            return OUT_OF_MEMORY
    return 0


def _write(answers: Any, content: bytes) -> None:
    """Write all of it: a pipe accepts no more than it has room for."""
    rest = memoryview(content)
    while rest:
        rest = rest[answers.write(rest) :]


if __name__ == "__main__":
    sys.exit(main())
