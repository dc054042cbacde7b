"""Feeds a session with whatever a coverage-guided fuzzer thinks of, for a minute or as long as it is told.

::

    python tests/soak/fuzz_replies.py                 # 60 seconds
    python tests/soak/fuzz_replies.py --seconds 600
    python tests/soak/fuzz_replies.py crash-1234      # one input again

It ends with an error at the first input that brings out anything but a protocol error, leaves a message
without exactly one outcome, doubts what was never released, or is remembered without bound. Needs atheris.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

TESTS = Path(__file__).parents[1]
MOST_INPUT = 1 << 17


def main() -> None:
    """Fuzz until the time is over."""
    sys.path.insert(0, str(TESTS))
    if find_spec("mailmerge") is None:  # not installed: the checkout itself
        sys.path.insert(1, str(TESTS.parent))
    import atheris

    with atheris.instrument_imports(include=["mailmerge.smtp"]):
        from soak.replies_target import one_input, seeds

    arguments = sys.argv[1:]
    seconds = "60"
    if "--seconds" in arguments:
        at = arguments.index("--seconds")
        seconds = arguments[at + 1]
        del arguments[at : at + 2]
    with tempfile.TemporaryDirectory(prefix="fuzz-replies-") as corpus:
        for number, seed in enumerate(seeds()):
            Path(corpus, str(number)).write_bytes(seed)
        options = [f"-max_total_time={seconds}", f"-max_len={MOST_INPUT}", "-rss_limit_mb=512", "-timeout=5"]
        options += [f"-artifact_prefix={tempfile.gettempdir()}/", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, *(arguments or [corpus])], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
