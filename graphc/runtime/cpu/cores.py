"""How many threads may compute at once: the smaller of the process's CPUs and its cgroup's quota.

A container with a quota of two CPUs on a machine of sixty-four sees all sixty-four; sixty-four
threads would be throttled together and run slower than two.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def thread_count(root: Path = ROOT) -> int:
    """The number of threads worth having: at least one, at most the CPUs of the affinity mask."""
    allowed = available_cpus()
    quota = cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def available_cpus() -> int:
    """The CPUs that the scheduler may give to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def cpu_quota(root: Path = ROOT) -> float | None:
    """The CPUs that the control groups (versions 1 and 2) grant; None where none of them limits."""
    granted = [quota for folder in _groups(root) if (quota := _quota(folder)) is not None]
    return min(granted, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's group and of all that contain it, however they are mounted."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        names = (controllers, "cpu", "cpu,cpuacct") if controllers else ("", "unified")
        for name in dict.fromkeys(names):
            mount = root / "sys/fs/cgroup" / name
            inner = PurePosixPath(path.lstrip("/"))
            # The mount may show the container's own group as its root, so every level is tried.
            yield from (mount / level for level in (inner, *inner.parents))


def _quota(folder: Path) -> float | None:
    """The limit of one group: `cpu.max` of version 2, or the two files of version 1."""
    words = _text(folder / "cpu.max").split()
    if not words:
        words = [_text(folder / f"cpu.cfs_{part}_us").strip() for part in ("quota", "period")]
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):  # "max", or no such files
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
