"""Entry point of ``mailmerge`` and ``python -m mailmerge``."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        prepare()
        from mailmerge.cli import run
    except KeyboardInterrupt:  # later ones are `run`'s
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))


def prepare() -> None:
    """Do what comes before anything large is imported."""
    from mailmerge.streams import protect_streams

    protect_streams()
    # Start-up makes a hundred thousand objects and no cycles; by default Python looks for them after 700.
    gc.set_threshold(20_000, 10, 10)
    _leave_no_core()


def _leave_no_core() -> None:
    """Ask for no memory dump after a crash: secrets would be in it."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    main()
