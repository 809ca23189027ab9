"""Look for graphs that passes or devices change: `python tools/fuzz.py --minutes 60 [--seed N]`.

With `--control`, for programs of loops and branches that do not do what Python's own loops do.

Prints each failure as a small program that runs, and exits with 1 if there was one.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Grow programs until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--size", type=int, default=12, help="ops in a program")
    sys.path.insert(0, str(ROOT))
    fuzz = importlib.import_module("tests.fuzz")  # found only once the root is on the path
    names, usual = [*fuzz.DEVICES, fuzz.SESSIONS], "default: all that compile quickly"
    parser.add_argument("--device", action="append", choices=names, help=usual)
    parser.add_argument("--control", action="store_true", help="loops and branches")
    options = parser.parse_args()
    on = options.device or fuzz.EVERY
    end = time.monotonic() + 60 * options.minutes
    seed, failures = options.seed, 0
    while time.monotonic() < end:
        if options.control:
            failures += _fails_in_loops(seed, options.size, options.device)
            seed += 1
            continue
        program = fuzz.grow(seed, options.size)
        if fuzz.fails(program, on):
            failures += 1
            small = fuzz.shrink(program, lambda smaller: fuzz.fails(smaller, on))
            print(f"# seed {seed}: {fuzz.fails(small, on)}\n{small.source()}", flush=True)
        seed += 1
    print(f"{seed - options.seed} programs, {failures} failures")
    return 1 if failures else 0


def _fails_in_loops(seed: int, size: int, on: Sequence[str] | None) -> bool:
    """Whether a program of loops fails, which is printed then; on some devices, or in turn."""
    control, checking = map(
        importlib.import_module, ("tests.control_fuzz", "tests.control_fuzz_check")
    )
    program, ways = control.grow(seed, size), checking.ways_of(seed)
    if on is not None:
        ways = [checking.WAYS[0], *((device, None, "") for device in on)]
    failed = checking.fails(program, ways) is not None
    if failed:
        print(f"# seed {seed}\n{checking.smallest(program, ways)}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
