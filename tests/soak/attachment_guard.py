"""Swaps 1,000 files of ten kinds, and counts how many the guard finds and how many others it blames.

::

    python tests/soak/attachment_guard.py             # 1,000 swaps, as files
    python tests/soak/attachment_guard.py --texts 50  # the texts alone, of so many lists of each kind

It ends with an error where fewer than 99 % are found, or more than 0.1 % of the others are blamed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROWS = 1000
SWAPPED = 100


def main() -> None:
    """Count."""
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    from attachment_corpus import KINDS

    lists = int(sys.argv[2]) if sys.argv[1:2] == ["--texts"] else 0
    found = wrong = blamed = right = files = 0
    took = 0.0
    for kind in KINDS:
        counts = [0, 0, 0, 0]
        for seed in range(lists or 1):
            began = time.process_time()
            one = _count(kind, seed, as_files=not lists)
            took += time.process_time() - began
            counts = [total + more for total, more in zip(counts, one, strict=True)]
        print(f"{kind:<14} found {counts[0]} of {counts[1]} swapped files; blamed {counts[2]} of {counts[3]}")
        found, wrong = found + counts[0], wrong + counts[1]
        blamed, right = blamed + counts[2], right + counts[3]
        files += counts[1] + counts[3]
    print(f"found {found / wrong:.2%} of {wrong}, blamed {blamed / right:.4%} of {right}")
    print(f"{took / files * 1000:.2f} ms of processor time a file, made files included")
    if found < 0.99 * wrong or blamed > 0.001 * right:
        raise SystemExit(1)


def _count(kind: str, seed: int, *, as_files: bool) -> tuple[int, int, int, int]:
    """Return found, swapped, blamed and other files of one list."""
    from attachment_corpus import KINDS, corpus, file_of, swapped
    from mailmerge.attachment_guard.extraction import extract
    from mailmerge.attachment_guard.naming import Identities

    made = corpus(kind, seed, ROWS if as_files else 200)
    order, wrong = swapped(made, seed, SWAPPED if as_files else 20)
    identities = Identities()
    for n, (address, key, first, last) in enumerate(made.rows):
        identities.add(n, key=key, addresses=[address], names=[f"{first} {last}".strip()])
    suffix = KINDS[kind]
    texts = [
        extract(file_of(suffix, made.texts[n]), suffix).text if as_files else made.texts[n] for n in order
    ]
    seen = [identities.see(text, (n,)) for n, text in enumerate(texts)]
    accused = {n for n, sighting in enumerate(seen) if identities.judge(sighting)}
    return len(accused & wrong), len(wrong), len(accused - wrong), len(order) - len(wrong)


if __name__ == "__main__":
    main()
