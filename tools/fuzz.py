"""Look for graphs that passes or devices change: `python tools/fuzz.py --minutes 60 [--seed N]`.

Prints each failure as a small program that runs, and exits with 1 if there was one.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
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
    parser.add_argument("--device", action="append", choices=fuzz.EVERY, help="default: all")
    options = parser.parse_args()
    on = options.device or fuzz.EVERY
    end = time.monotonic() + 60 * options.minutes
    seed, failures = options.seed, 0
    while time.monotonic() < end:
        program = fuzz.grow(seed, options.size)
        if fuzz.fails(program, on):
            failures += 1
            small = fuzz.shrink(program, lambda smaller: fuzz.fails(smaller, on))
            print(f"# seed {seed}: {fuzz.fails(small, on)}\n{small.source()}", flush=True)
        seed += 1
    print(f"{seed - options.seed} programs, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
