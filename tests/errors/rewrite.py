"""Writes the expected messages anew: `python -m tests.errors.rewrite [NAME ...]`.

Never run by the tests: read what changed (`git diff`) as the user of the program would.
"""

from __future__ import annotations

import sys

from tests.errors.corpus import expected, failure_of, message, names


def main(chosen: list[str]) -> int:
    """Write the messages of some programs, or of all; 1 where one raises nothing."""
    silent = []
    for name in chosen or names():
        error = failure_of(name)
        if error is None:
            silent.append(name)
            continue
        text = message(error)
        old = expected(name).read_text() if expected(name).exists() else ""
        if text != old:
            expected(name).write_text(text)
            print(f"--- {name}\n{text}")
    if silent:
        print("raise nothing:", ", ".join(silent))
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
