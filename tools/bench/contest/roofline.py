"""The limits of this machine, measured as a contestant beside the others: multiply-adds and copies.

Enters: which limit, and on how many threads. Leaves: a function that runs it once and gives how
many operations (or bytes) a second. The multiply-adds are independent chains in vector registers,
each started from a value of its own, because equal chains would be merged.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import llvmlite
import numpy as np
from llvmlite import binding, ir

VERSION = llvmlite.__version__
SECONDS = 0.01  # about, of one measurement
COPIED, FEW_COPIED = 16_000_000, 16_000  # float32 numbers for a thread
FLOAT, INTEGER = ir.FloatType(), ir.IntType(64)


def threads() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def _module(lanes: int, chains: int) -> ir.Module:
    """`chain(n, x) -> float`: n rounds of multiply-adds on `chains` vectors."""
    module = ir.Module("roofline")
    vector = ir.VectorType(FLOAT, lanes)
    fused = ir.Function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32")
    function = ir.Function(module, ir.FunctionType(FLOAT, [INTEGER, FLOAT]), "chain")
    count, x = function.args
    entry, body, done = (function.append_basic_block(name) for name in ("entry", "body", "done"))
    builder = ir.IRBuilder(entry)
    lane = builder.insert_element(ir.Constant(vector, ir.Undefined), x, ir.IntType(32)(0))
    order = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    factor = builder.shuffle_vector(lane, ir.Constant(vector, ir.Undefined), order)
    starts = [
        builder.fmul(factor, ir.Constant(vector, [float(i + 1)] * lanes)) for i in range(chains)
    ]
    builder.branch(body)
    builder.position_at_end(body)
    index = builder.phi(INTEGER)
    running = [builder.phi(vector) for _ in range(chains)]
    after = [builder.call(fused, [value, factor, factor]) for value in running]
    following = builder.add(index, INTEGER(1))
    for phi, start, value in zip((index, *running), (INTEGER(0), *starts), (following, *after)):
        phi.add_incoming(start, entry)
        phi.add_incoming(value, body)
    builder.cbranch(builder.icmp_signed("<", following, count), body, done)
    builder.position_at_end(done)
    total = after[0]
    for value in after[1:]:
        total = builder.fadd(total, value)
    builder.ret(builder.extract_element(total, ir.IntType(32)(0)))
    return module


class Chains:
    """The compiled multiply-adds of this machine."""

    def __init__(self) -> None:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        features = binding.get_host_cpu_features()
        self.lanes = 16 if features.get("avx512f") else 8 if features.get("avx2") else 4
        self.chains = 24 if self.lanes == 16 else 12  # enough to hide the latency
        machine = binding.Target.from_default_triple().create_target_machine(
            cpu=binding.get_host_cpu_name(), features=features.flatten(), opt=2
        )
        module = binding.parse_assembly(str(_module(self.lanes, self.chains)))
        module.verify()
        self._engine = binding.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()
        kind = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64, ctypes.c_float)
        self._run = kind(self._engine.get_function_address("chain"))
        self._rounds = 10_000
        start = time.perf_counter()
        self()
        self._rounds = max(1, int(self._rounds * SECONDS / (time.perf_counter() - start)))

    def __call__(self) -> float:
        """Run; how many floating point operations."""
        self._run(self._rounds, 0.5)
        return 2.0 * self.lanes * self.chains * self._rounds


def _copies(count: int, size: int) -> list[Callable[[], float]]:
    """A copy of its own memory for each thread; gives bytes read and written."""

    def copy(source: Any, to: Any) -> float:
        np.copyto(to, source)
        return 2.0 * float(source.nbytes)

    arrays = [(np.ones(size, np.float32), np.zeros(size, np.float32)) for _ in range(count)]
    return [lambda pair=pair: copy(*pair) for pair in arrays]  # type: ignore[misc]


class Crew:
    """Threads that start together and are timed until the last has ended."""

    def __init__(self, work: list[Callable[[], float]]) -> None:
        self._work, self._gate = work, threading.Barrier(len(work) + 1)
        self._done = [0.0] * len(work)
        self._times = [(0.0, 0.0)] * len(work)  # by their own clocks: whoever waits may wake late
        for index in range(len(work)):
            threading.Thread(target=self._body, args=(index,), daemon=True).start()

    def _body(self, index: int) -> None:
        while True:
            self._gate.wait()
            start = time.perf_counter()
            self._done[index] = self._work[index]()
            self._times[index] = start, time.perf_counter()
            self._gate.wait()

    def __call__(self) -> float:
        """What all of them did in a second."""
        self._gate.wait()
        self._gate.wait()
        starts, ends = zip(*self._times, strict=True)
        return sum(self._done) / (max(ends) - min(starts))


def rate(limit: str, count: int, small: bool) -> Callable[[], float]:
    """A function that measures "fma" (operations a second) or "copy" (bytes a second) once."""
    if limit == "copy":
        return Crew(_copies(count, FEW_COPIED if small else COPIED))
    chains = Chains()
    return Crew([chains] * count)
