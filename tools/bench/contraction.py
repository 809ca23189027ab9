"""Measure contractions: GFLOP/s and the share of the multiply-add peak, beside NumPy.

usage: python tools/bench/contraction.py [--threads 1,2] [case ...]      (all, without arguments)

Each figure is the median of rounds. In a round the peak is measured before and after the kernel,
on as many threads and for about as long, so that what else the machine does hits both. The peak
is that of independent chains of fused multiply-adds. Each chain starts from a value of its own:
equal chains would be merged by LLVM, and the peak would come out several times too high.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from graphc.runtime.cpu.contraction import Contraction, matmul_sizes
from graphc.runtime.cpu.convolution import Convolution
from graphc.runtime.cpu.driver import emit
from graphc.runtime.cpu.emission import INTEGER, POINTER, VOID, declare, integer, splat
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.target import host

SECONDS = 0.015  # of one measurement
UNSTEADY = 1.15  # largest to smallest peak beyond which a share says little
MATMULS = {
    "64^3": (64, 64, 64, ""), "256^3": (256, 256, 256, ""), "512^3": (512, 512, 512, ""),
    "1024^3": (1024, 1024, 1024, ""), "2048^3": (2048, 2048, 2048, ""),
    "128x784x512": (128, 784, 512, ""), "784x128x512 A^T": (784, 128, 512, "a"),
    "1024x256x1024": (1024, 256, 1024, ""), "1024x256x1024 B^T": (1024, 256, 1024, "b"),
    "1x1024x1024": (1, 1024, 1024, ""), "1x4096x4096": (1, 4096, 4096, ""),
}  # fmt: skip
CONVOLUTION = Convolution(128, 26, 26, 32, 3, 3, 32)


class Case(NamedTuple):
    """Something to measure: sizes, addresses, arithmetic, NumPy's way (if it has one)."""

    sizes: dict[str, int]
    addresses: tuple[int, ...]
    flops: float
    numpy: Callable[[], Any] | None
    held: tuple[Any, ...]


def peak_function() -> Callable[[int], float]:
    """Runs n rounds of independent multiply-adds; gives how many floating point operations."""
    target = host()
    lanes, chains = target.lanes(32), 24 if target.registers >= 32 else 12
    vector, module = ir.VectorType(ir.FloatType(), lanes), ir.Module()
    arguments = [("n", INTEGER), ("x", ir.FloatType()), ("out", POINTER)]
    _, builder, [n, x, out] = declare(module, "peak", VOID, arguments, True)
    fused = ir.Function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32")
    factor = splat(builder, x, lanes)
    starts = [
        builder.fmul(factor, ir.Constant(vector, [float(i + 1)] * lanes)) for i in range(chains)
    ]
    entry, body = builder.block, builder.append_basic_block("body")
    builder.branch(body)
    builder.position_at_end(body)
    index = builder.phi(INTEGER)
    index.add_incoming(integer(0), entry)
    running = [builder.phi(vector) for _ in range(chains)]
    after = [builder.call(fused, [value, factor, factor]) for value in running]
    for phi, start, value in zip(running, starts, after, strict=True):
        phi.add_incoming(start, entry)
        phi.add_incoming(value, body)
    following = builder.add(index, integer(1))
    index.add_incoming(following, body)
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", following, n), body, done)
    builder.position_at_end(done)
    total = after[0]
    for value in after[1:]:
        total = builder.fadd(total, value)
    builder.store(total, out, align=4)
    builder.ret_void()
    library = compile_module(module, target)
    run = library.function("peak", None, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p)

    def measured(n: int) -> float:
        out = np.empty(lanes, np.float32)
        run(n, 0.5, out.ctypes.data)
        return 2.0 * lanes * chains * n

    return measured


def timed(work: Callable[[int], Any], threads: int) -> float:
    """Seconds until all threads have done their work."""
    if threads == 1:
        start = time.perf_counter()
        work(0)
        return time.perf_counter() - start
    gate = threading.Barrier(threads + 1)

    def body(index: int) -> None:
        gate.wait()
        work(index)
        gate.wait()

    pool = [threading.Thread(target=body, args=(i,)) for i in range(threads)]
    for thread in pool:
        thread.start()
    gate.wait()
    start = time.perf_counter()
    gate.wait()
    seconds = time.perf_counter() - start
    for thread in pool:
        thread.join()
    return seconds


def random(*shape: int) -> Any:
    """Normal numbers."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def matmul_case(m: int, k: int, n: int, turned: str) -> Case:
    """A product; `turned` names the operand that is stored transposed."""
    a = random(k, m).T if turned == "a" else random(m, k)
    b = random(n, k).T if turned == "b" else random(k, n)
    c = np.zeros((m, n), np.float32)
    steps = [tuple(s // 4 for s in x.strides) for x in (a, b, c)]
    addresses = tuple(x.ctypes.data for x in (a, b, c))
    sizes = matmul_sizes(m, k, n, *steps)
    return Case(sizes, addresses, 2.0 * m * k * n, lambda: np.matmul(a, b, out=c), (a, b, c))


def convolution_cases() -> dict[str, Case]:
    """Forward and both gradients.

    Only useful arithmetic counts: 2 x outputs x taps, for all three. What the gradient of the
    image multiplies with its border of zeros does not.
    """
    geometry, (high, wide) = CONVOLUTION, CONVOLUTION.border()
    x, w, dy = random(128, 26, 26, 32), random(3, 3, 32, 32), random(*geometry.output)
    bordered = np.pad(dy, ((0, 0), (high, high), (wide, wide), (0, 0)))
    y, dw, dx = np.zeros_like(dy), np.zeros_like(w), np.zeros_like(x)
    flops = 2.0 * dy.size * 288
    [back] = geometry.image_gradients()
    found = {}
    for label, instance, arrays in (
        ("conv forward", geometry.forward(), (x, w, y)),
        ("conv filter gradient", geometry.filter_gradient(), (x, dy, dw)),
        ("conv image gradient", back, (bordered, w, dx)),
    ):
        places = zip(arrays, (instance.a, instance.b, instance.c), strict=True)
        addresses = tuple(array.ctypes.data + 4 * place for array, place in places)
        found[label] = Case(instance.sizes, addresses, flops, None, arrays)
    return found


class Kernel:
    """A compiled contraction."""

    def __init__(self, contraction: Contraction) -> None:
        self.contraction, module, name = contraction, ir.Module(), contraction.name
        start = time.perf_counter()
        emit(contraction, module, host())
        text = str(module)
        self.emitted = time.perf_counter() - start
        library = compile_module(text, host())
        self.compiled = time.perf_counter() - start - self.emitted
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.run = library.function(name, None, pointer, pointer, pointer, number, number)
        self.queries = [
            library.function(f"{name}_{q}", number, pointer) for q in ("tiles", "workspace")
        ]

    def work(self, case: Case, threads: int) -> Callable[[int], None]:
        """What a thread does: its part of the tiles."""
        sizes = self.contraction.sizes(case.sizes)
        tiles, length = (query(sizes.ctypes.data) for query in self.queries)
        buffers = np.array(case.addresses, np.uint64)
        raw = [np.empty(length + 64, np.uint8) for _ in range(threads)]
        spaces = [x.ctypes.data + -x.ctypes.data % 64 for x in raw]
        cuts = [tiles * i // threads for i in range(threads + 1)]

        def part(i: int, held: Any = (sizes, buffers, raw)) -> None:
            self.run(held[0].ctypes.data, held[1].ctypes.data, spaces[i], cuts[i], cuts[i + 1])

        return part


class Figures(NamedTuple):
    """Medians: GFLOP/s, share of the peak, the peak; whether the peak held still; NumPy."""

    speed: float
    share: float
    peak: float
    steady: bool
    numpy: float | None


def measure(
    peak: Callable[[int], float], kernel: Kernel, case: Case, threads: int, rounds: int = 7
) -> Figures:
    """Rounds of peak, kernel, peak; then NumPy, whose threads spin on and would disturb them."""
    part = kernel.work(case, threads)
    once = min(timed(part, threads) for _ in range(3))
    repeats = max(1, int(SECONDS / once))
    probe = 100_000
    probe = int(probe * SECONDS / min(timed(lambda _: peak(probe), 1) for _ in range(3)))
    limit = threads * peak(1) * probe

    def repeated(i: int) -> None:
        for _ in range(repeats):
            part(i)

    speeds, shares, peaks = [], [], []
    for _ in range(rounds):
        before = limit / timed(lambda _: peak(probe), threads)
        speed = case.flops * repeats / timed(repeated, threads)
        after = limit / timed(lambda _: peak(probe), threads)
        speeds.append(speed / 1e9)
        shares.append(2 * speed / (before + after))
        peaks += [before / 1e9, after / 1e9]
    steady = max(peaks) < UNSTEADY * min(peaks)
    medians = [statistics.median(values) for values in (speeds, shares, peaks)]
    return Figures(*medians, steady, numpy_speed(case))


def numpy_speed(case: Case) -> float | None:
    """GFLOP/s of NumPy on all its threads; then a pause until they have stopped spinning."""
    if case.numpy is None:
        return None
    call = case.numpy
    speeds = [case.flops / timed(lambda _: call(), 1) / 1e9 for _ in range(9)]
    time.sleep(0.3)
    return statistics.median(speeds)


def main() -> None:
    """Measure the named cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", help="all, without")
    parser.add_argument("--threads", default="1,2")
    options = parser.parse_args()
    os.environ["GRAPHC_CACHE"] = "off"  # compile times are of a compiler, not of a disk
    known = {"b_n": 1, "c_n": 1}
    Kernel(Contraction("warm", known=known))
    kernels = {
        "matmul": Kernel(Contraction("matmul")),
        "matmul, unit strides": Kernel(Contraction("matmul_unit", known=known)),
        "convolution": Kernel(Contraction("convolution", row_axes=3, sum_axes=3)),
    }
    for name, kernel in kernels.items():
        written, compiled = 1e3 * kernel.emitted, 1e3 * kernel.compiled
        print(f"{name:24} written {written:5.1f} ms  compiled {compiled:5.1f} ms")
    cases = {name: (kernels["matmul"], matmul_case(*sizes)) for name, sizes in MATMULS.items()}
    cases |= {name: (kernels["convolution"], case) for name, case in convolution_cases().items()}
    peak = peak_function()
    print(f"\n{'case':24} threads   GFLOP/s   of peak      peak    NumPy")
    for name in options.cases or cases:
        for threads in map(int, options.threads.split(",")):
            found = measure(peak, *cases[name], threads)
            beside = f"{found.numpy:8.1f}" if found.numpy is not None else "       -"
            note = "" if found.steady else "  peak unsteady: the machine was shared"
            print(
                f"{name:24} {threads:7} {found.speed:9.1f} {found.share:9.1%} {found.peak:9.1f}"
                f" {beside}{note}",
                flush=True,
            )


if __name__ == "__main__":
    main()
