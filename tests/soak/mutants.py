"""Changes one operator or number of a module at a time, and tells which changes its tests do not notice.

::

    python tests/soak/mutants.py                              # 60 seconds, a sample of all modules below
    python tests/soak/mutants.py --seconds 600 --seed 7 check/rules/accessibility.py

A survivor is a question to a person: either a test is missing, or the change makes no difference.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHOSEN = {
    "addresses.py": ["unit/test_addresses.py"],
    "check/rules/accessibility.py": ["integration/test_check_rules.py"],
    "sending/policy.py": [
        "unit/test_sending_backoff.py",
        "unit/test_sending_policy.py",
        "integration/test_sending_sender.py",
    ],
    "sending/throttle.py": ["integration/test_sending_throttle.py"],
    "sending/work_queue.py": ["unit/test_sending_work_queue.py"],
    "smtp/replies.py": ["unit/test_smtp_replies.py", "protocol/test_transcripts.py"],
    "values/comparison.py": ["unit/test_values.py", "unit/test_values_table.py"],
}
"""Modules that decide, with the tests that should notice if they decide otherwise."""

_PAIRS = [
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
    (ast.And, ast.Or),
    (ast.Add, ast.Sub),
    (ast.Mult, ast.FloorDiv),
]
_SWAPS: dict[type, Any] = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}
_COPY = "def test_copy():\n    assert __import__('mailmerge').__file__.startswith(__file__[:-13])\n"


class Mutation(ast.NodeTransformer):
    """Makes change number *wanted*; ``count`` is how many there are, ``what`` the one that was made."""

    def __init__(self, wanted: int = -1) -> None:
        self.wanted, self.count, self.what = wanted, 0, ""

    def visit(self, node: ast.AST) -> ast.AST:
        """Change this node if it is its turn."""
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return node
        changed = self._change(node)
        if changed is not None:
            self.count += 1
            if self.count - 1 == self.wanted:
                before, after = ast.unparse(node), ast.unparse(changed)
                self.what = f"{getattr(node, 'lineno', 0)}: {before}  ->  {after}"
                return ast.copy_location(changed, node)
        return self.generic_visit(node)

    @staticmethod
    def _change(node: ast.AST) -> ast.expr | None:
        """Return another version of an expression, or None where nothing is changed."""
        swap = _SWAPS.get(type(getattr(node, "op", None)))
        match node:
            case ast.Compare(ops=[operator]) if type(operator) in _SWAPS:
                swapped = _SWAPS[type(operator)]()
                changed: ast.expr = ast.Compare(node.left, [swapped], node.comparators)
            case ast.BoolOp() if swap:
                changed = ast.BoolOp(swap(), node.values)
            case ast.BinOp() if swap:
                changed = ast.BinOp(node.left, swap(), node.right)
            case ast.UnaryOp(op=ast.Not()):
                changed = node.operand
            case ast.Constant(value=bool() | int() | float() as value):
                changed = ast.Constant(not value if isinstance(value, bool) else value * 2 + 1)
            case _:
                return None
        return changed


def main() -> None:
    """Try changes until the time is over, and print those that survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=list(CHOSEN), metavar="MODULE")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    wanted = parser.parse_args()
    print(f"seed {wanted.seed}")
    trees = {name: (ROOT / "mailmerge" / name).read_text("utf-8") for name in wanted.modules}
    todo = [(name, number) for name, text in trees.items() for number in range(_count(text))]
    random.Random(wanted.seed).shuffle(todo)
    tried = survived = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        shutil.copytree(ROOT / "mailmerge", Path(folder) / "mailmerge")
        (Path(folder) / "test_copy.py").write_text(_COPY)
        tests = sorted({test for name in wanted.modules for test in CHOSEN[name]})
        if not _unnoticed(Path(folder), [*tests, f"{folder}/test_copy.py"]):
            sys.exit("The tests fail without any change.")
        end = time.monotonic() + wanted.seconds
        while todo and time.monotonic() < end:
            name, number = todo.pop()
            mutation = Mutation(number)
            changed = ast.unparse(ast.fix_missing_locations(mutation.visit(ast.parse(trees[name]))))
            (Path(folder) / "mailmerge" / name).write_text(changed, "utf-8")
            tried += 1
            if _unnoticed(Path(folder), CHOSEN[name]):
                survived += 1
                print(f"survived: mailmerge/{name}:{mutation.what}")
            (Path(folder) / "mailmerge" / name).write_text(trees[name], "utf-8")
    print(f"{tried} of {tried + len(todo)} changes tried, {survived} survived")


def _count(text: str) -> int:
    mutation = Mutation()
    mutation.visit(ast.parse(text))
    return mutation.count


def _unnoticed(folder: Path, tests: list[str]) -> bool:
    """Run the tests against the changed copy; an endless loop counts as noticed."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "examples"),
    }
    environ["PYTHONDONTWRITEBYTECODE"] = "1"  # two changes within a second would share their bytecode
    command = [sys.executable, "-P", "-m", "pytest", "-xqq", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=ROOT / "tests", env=environ, capture_output=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    main()
