"""Lets a server get out of step at one of 10,000 messages, for a minute or as long as it is told.

::

    python tests/soak/out_of_step.py                  # 60 seconds
    python tests/soak/out_of_step.py --seconds 600
    python tests/soak/out_of_step.py --seed 17        # the same again

It ends with an error at the first row in a state that the server did not mean, and at the first doubt about a
message that was begun more than a second before.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from itertools import product
from pathlib import Path

TESTS = Path(__file__).parents[1]
MESSAGES = 10_000


def main() -> None:
    """Play until the time is over, every mode with every fault in turn."""
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]
    from protocol.test_in_step import FAULTS, MODES, Run, Server, judge

    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    asked = parser.parse_args()
    print(f"seed {asked.seed}")
    chance = random.Random(asked.seed)
    until, played, doubts = time.monotonic() + asked.seconds, 0, 0
    while time.monotonic() < until:
        for mode, fault in product(MODES, FAULTS):
            server = Server(fault, chance.randrange(1, MESSAGES + 1), chance)
            run = Run(mode, server, MESSAGES).go()
            judge(run, server)
            played += 1
            doubts = max(doubts, list(run.statuses.values()).count("in_doubt"))
    print(f"{played} sessions of {MESSAGES:,} messages; at most {doubts:,} rows in doubt after one")


if __name__ == "__main__":
    main()
