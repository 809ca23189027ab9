"""The few environment variables that graphc reads, each read when it is needed, never at import.

`GRAPHC_DEBUG`  0..4: 1 plan, times and whole tracebacks, 2 passes, 3 kernels, 4 generated code.
`GRAPHC_DUMP`   a folder that receives every stage of every compilation.
`GRAPHC_SKIP`   names of passes to leave out, separated by commas.
"""

from __future__ import annotations

import os
from pathlib import Path


def debug() -> int:
    """The debug level; anything that is not a number counts as 1."""
    value = os.environ.get("GRAPHC_DEBUG", "")
    if not value:
        return 0
    return int(value) if value.isdigit() else 1


def dump_folder() -> Path | None:
    """Where stages are written, or None."""
    value = os.environ.get("GRAPHC_DUMP", "")
    return Path(value) if value else None


def skipped_passes() -> frozenset[str]:
    """The passes that the user switched off."""
    return frozenset(filter(None, os.environ.get("GRAPHC_SKIP", "").replace(" ", "").split(",")))
