"""How long does one message take?  build_one.py VARIANT SECONDS NAME...: one line of JSON.

The first name is what the others are measured by. Runs in the environment of the library it measures.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path

import builders
import fixtures
import measure

ROWS = 1_000_000  # more than there is time for


def main() -> None:
    """Measure the builders named on the command line."""
    logging.disable(logging.CRITICAL)
    variant, seconds, *names = sys.argv[1:]
    mailing = fixtures.mailing(variant)
    with tempfile.TemporaryDirectory() as folder:
        contenders = {name: builders.MAKERS[name](mailing, Path(folder)) for name in names}
        timings = measure.take_turns(contenders, fixtures.rows(ROWS), seconds=float(seconds))
    print(json.dumps({name: [timing.microseconds, timing.ratio] for name, timing in timings.items()}))


if __name__ == "__main__":
    main()
