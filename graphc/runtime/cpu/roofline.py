"""What this machine can do at most, measured: multiply-adds, and bytes copied, a second.

S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model for
multicore architectures", Communications of the ACM 52 (2009). A profile gives shares of these.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable

import numpy as np

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.emission import (
    INTEGER,
    POINTER,
    VOID,
    advance,
    declare,
    integer,
    multiply_add,
)
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.target import Target, host
from graphc.runtime.cpu.threads import pool
from graphc.runtime.device import Limits

TURNS = 100_000  # of the loop of multiply-adds, for each chunk
COPIED = 1 << 26  # bytes: more than any cache holds
REPEATS = 5


@functools.cache
def limits() -> Limits:
    """The limits of this machine, measured once a process, in about a tenth of a second."""
    return Limits(_operations(host()), _bytes())


def _chains(target: Target) -> int:
    """How many multiply-adds that wait for nothing hide the latency of one."""
    return 24 if target.registers >= 32 else 12


def _code(target: Target) -> ir.Module:
    """Independent chains of multiply-adds; what they end in is stored, so that they are done."""
    module = ir.Module("roofline")
    lanes = target.lanes(32)
    vector = ir.VectorType(ir.FloatType(), lanes)
    arguments = [("context", POINTER), ("begin", INTEGER), ("end", INTEGER)]
    _, builder, [context, begin, _] = declare(module, "chains", VOID, arguments, True)
    step, count = ir.Constant(vector, [0.5] * lanes), _chains(target)
    entry, body = builder.block, builder.append_basic_block("body")
    done = builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    counter, sums = builder.phi(INTEGER), [builder.phi(vector) for _ in range(count)]
    following = builder.add(counter, integer(1))
    after = [multiply_add(builder, s, step, step) for s in sums]
    counter.add_incoming(integer(0), entry)
    counter.add_incoming(following, body)
    for i, (phi, value) in enumerate(zip(sums, after, strict=True)):
        phi.add_incoming(ir.Constant(vector, [float(i)] * lanes), entry)
        phi.add_incoming(value, body)
    builder.cbranch(builder.icmp_signed("<", following, integer(TURNS)), body, done)
    builder.position_at_end(done)
    total = functools.reduce(builder.fadd, after)
    offset = builder.mul(begin, integer(4 * lanes))
    builder.store(total, advance(builder, context, offset), align=4)
    builder.ret_void()
    return module


def _operations(target: Target) -> float:
    library = compile_module(_code(target), target)
    threads, lanes = pool().threads, target.lanes(32)
    kept = np.zeros(4 * threads * lanes, np.float32)
    address = kept.ctypes.data_as(ctypes.c_void_p).value
    seconds = _quickest(
        lambda: pool().parallel_for(library.address("chains"), address, 4 * threads, 1)
    )
    return 2.0 * 4 * threads * lanes * _chains(target) * TURNS / seconds


def _bytes() -> float:
    source, target = np.ones(COPIED, np.uint8), np.zeros(COPIED, np.uint8)
    threads = pool().threads
    share = COPIED // threads
    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)

    def copy(_: object, begin: int, end: int) -> None:
        ctypes.memmove(
            target.ctypes.data + begin * share, source.ctypes.data + begin * share, share
        )

    seconds = _quickest(lambda: pool().parallel_for(body(copy), None, threads, 1))
    return 2.0 * share * threads / seconds


def _quickest(work: Callable[[], None]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best
