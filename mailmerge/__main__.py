"""Entry point of ``mailmerge`` and ``python -m mailmerge``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from mailmerge.cli import run  # noqa: PLC0415  the import is part of what an interrupt may cut short

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
