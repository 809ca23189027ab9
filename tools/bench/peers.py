"""Time graphc and the frameworks that a user would pick instead, side by side.

    python tools/bench/peers.py --json peers.json          # --help tells the rest

Contestants take turns of a fraction of a second, each in a process that stands still while others
are timed; the machine's limits are measured in between. Exit status 1: some values differ.
"""

from __future__ import annotations

import sys

from contest.command import main

if __name__ == "__main__":
    sys.exit(main())
