"""A lock that a forked process does not wait for in vain.

In a child of `os.fork` only the thread that forked goes on. A lock that another thread held stays
held there, with what it guards perhaps half changed: such a lock raises instead of hanging.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager

from graphc.errors import DeviceError

PATIENCE = 1.0  # seconds that a child waits for a lock that one of its own threads may hold


class ForkLock:
    """`with lock():` holds it; the thread that holds it may hold it again.

    The call only looks at the process, and the `with` is that of Python's own lock, so that an
    interrupt never comes between taking it and noting that it is taken.
    """

    process = os.getpid()  # asked once in each process: the system takes longer than the lock

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._process = ForkLock.process

    @classmethod
    def note_fork(cls) -> None:
        """Look at the process again, in a new child."""
        cls.process = os.getpid()

    def __call__(self) -> AbstractContextManager[bool]:
        """The lock to enter; a DeviceError where no thread of this process will release it."""
        process = ForkLock.process
        if self._process != process:
            if not self._lock.acquire(timeout=PATIENCE):
                raise DeviceError(
                    "run: another thread was using this session when the process was forked, so "
                    "its state may be half changed: make a new Session in the child"
                )
            self._lock.release()
            self._process = process
        return self._lock


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ForkLock.note_fork)
