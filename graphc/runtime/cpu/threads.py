"""The worker pool: threads that share the chunks of a native loop.

Enters: a native body `void body(void *context, int64 begin, int64 end)`, a count and a grain.
Leaves: the body called once for every chunk [i * grain, min((i + 1) * grain, count)), by several
threads, and all of them done. The chunks depend on count and grain alone, so what a body computes
for a chunk can be the same for any number of threads.

The workers are Python threads that enter compiled code once and stay there (`pool_code.py`), so
they never hold the interpreter's lock. A call costs half a microsecond while they spin; they sleep
about a millisecond after the last one.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import weakref
from typing import Any

from graphc.runtime.cpu.cores import thread_count
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.pool_code import MOST_WORKERS, pool_code, sleeps_on_futex
from graphc.runtime.cpu.target import host
from graphc.runtime.once import once

BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
FUNCTIONS = ("graphc_parallel_for", "graphc_parallel_for_limited")
PATIENCE = 1.0  # seconds that the end of a process waits for a worker's last chunk


class Pool:
    """A group of workers; a process has one, `pool()`, and tests have their own.

    `start` before use: it is free when the workers run already. Without it, and in a forked child
    until it is called there, everything runs on the calling thread.
    """

    def __init__(self, threads: int | None = None, futex: bool | None = None) -> None:
        count = thread_count() if threads is None else threads
        if count < 1:
            raise ValueError(f"Pool: threads must be at least 1, got {threads}")
        self.threads = min(count, MOST_WORKERS)
        code = pool_code(sleeps_on_futex() if futex is None else futex)
        self._library = compile_module(code, host())
        self._workers: list[threading.Thread] = []
        self._lock = threading.Lock()
        size, word = ctypes.c_int64, ctypes.c_void_p
        self._run = self._library.function(FUNCTIONS[1], None, word, word, size, size, size)
        self._work = self._library.function("graphc_worker", None, size)
        self._stop = self._library.function("graphc_stop", None)
        self._forget = self._library.function("graphc_forget", None)
        _watch(weakref.ref(self))

    def start(self) -> None:
        """Have the workers run; a process that may not start threads has fewer, or none."""
        if self._workers or self.threads == 1:
            return
        with self._lock:
            if self._workers:
                return
            started: list[threading.Thread] = []
            for index in range(1, self.threads):
                name = f"graphc-worker-{index}"
                worker = threading.Thread(target=self._work, args=(index,), name=name, daemon=True)
                try:
                    worker.start()
                except RuntimeError:  # a limit of the system's, or the interpreter is ending
                    break
                started.append(worker)
            self._counted().value = len(started)
            self._workers = started

    def stop(self) -> None:
        """End the workers, after the chunks they are in; `start` begins anew."""
        with self._lock:
            self._counted().value = 0
            self._stop()
            for worker in self._workers:
                worker.join(PATIENCE)
            if not any(worker.is_alive() for worker in self._workers):
                ctypes.c_int32.from_address(self._library.address("stop")).value = 0
            self._workers = []

    def symbols(self) -> dict[str, int]:
        """The addresses of the native entry points, for `compile_module`.

        `graphc_parallel_for(body, context, count, grain)`, and `graphc_parallel_for_limited` with
        one more int64: the most threads, the caller among them (0: all).
        """
        return {name: self._library.address(name) for name in FUNCTIONS}

    def parallel_for(
        self, body: Any, context: int | None, count: int, grain: int, limit: int = 0
    ) -> None:
        """Run all chunks. `body` is an address, or a function of ctypes'.

        A call from inside a body, or while another thread's call runs, is serial. A Python body
        that raises is reported by ctypes on stderr, and the other chunks run.
        """
        self.start()
        address = body if isinstance(body, int) else ctypes.cast(body, ctypes.c_void_p)
        self._run(address, context, count, grain, limit)

    def _counted(self) -> ctypes.c_int64:
        """The number of workers, where calls read it."""
        return ctypes.c_int64.from_address(self._library.address("workers"))

    def after_fork(self) -> None:
        """In a child: the workers stayed in the parent, and so did whoever held a lock."""
        self._lock = threading.Lock()
        self._workers = []
        self._forget()


@once
def pool() -> Pool:
    """The pool of this process; the first call makes it, and `start` its threads."""
    return Pool()


def _watch(reference: weakref.ref[Pool]) -> None:
    """Let a pool learn of forks, and of the interpreter's end."""

    def stop() -> None:
        if (pool := reference()) is not None:
            pool.stop()

    def after_fork() -> None:
        if (pool := reference()) is not None:
            pool.after_fork()

    atexit.register(stop)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=after_fork)
