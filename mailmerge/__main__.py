"""Entry point of ``mailmerge`` and ``python -m mailmerge``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from mailmerge.streams import protect_streams

    protect_streams()
    from mailmerge.cli import run  # the import is part of what an interrupt may cut short

    _leave_no_core()
    sys.exit(run(sys.argv[1:]))


def _leave_no_core() -> None:
    """Ask for no memory dump after a crash: secrets would be in it."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    main()
