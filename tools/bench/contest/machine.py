"""Which machine this is, as far as a reader of the figures must know."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Processor, threads that may be used, Python."""
    return {
        "processor": processor(),
        "threads": len(os.sched_getaffinity(0)),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """Its name and the widest vectors it says to have."""
    fields: dict[str, str] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", "").split()
    vectors = next((v for v in ("avx512f", "avx2") if v in flags), "")
    name = fields.get("model name") or platform.machine()
    return f"{name} ({vectors})" if vectors else name
