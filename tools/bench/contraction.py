"""Measure contractions: GFLOP/s and the share of the multiply-add peak, beside NumPy.

usage: python tools/bench/contraction.py [--threads 1,2] [case ...]      (all, without arguments)

Each figure is the median of rounds. In a round the peak is measured before and after the product,
on as many threads of the worker pool and for about as long, so that what else the machine does
hits both. The peak is that of independent chains of fused multiply-adds. Each chain starts from a
value of its own: equal chains would be merged by LLVM, and the peak would come out several times
too high.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.contraction import matmul_sizes, plain_closure, size_array
from graphc.runtime.cpu.convolution import Convolution
from graphc.runtime.cpu.driver_library import contraction_library, cut
from graphc.runtime.cpu.emission import INTEGER, POINTER, VOID, declare, integer, splat
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.target import host
from graphc.runtime.cpu.threads import pool

SECONDS = 0.015  # of one measurement
TINY = 1e5  # operations of a product that is repeated natively
UNSTEADY = 1.15  # largest to smallest peak beyond which a share says little
MATMULS = {
    "5x100x10": (5, 100, 10, ""), "32x10x10": (32, 10, 10, ""), "64^3": (64, 64, 64, ""),
    "256^3": (256, 256, 256, ""), "512^3": (512, 512, 512, ""),
    "1024^3": (1024, 1024, 1024, ""), "2048^3": (2048, 2048, 2048, ""),
    "128x784x512": (128, 784, 512, ""), "784x128x512 A^T": (784, 128, 512, "a"),
    "1024x256x1024": (1024, 256, 1024, ""), "1024x256x1024 B^T": (1024, 256, 1024, "b"),
    "784x128x10 A^T": (784, 128, 10, "a"), "32x100000x32 A^T": (32, 100000, 32, "a"),
    "12x1024x256": (12, 1024, 256, ""), "1x1024x1024": (1, 1024, 1024, ""),
    "1x4096x4096": (1, 4096, 4096, ""), "1024x1024x1": (1024, 1024, 1, ""),
}  # fmt: skip
CONVOLUTION = Convolution(128, 26, 26, 32, 3, 3, 32)


CODE = """
declare void @contract(ptr, ptr, ptr, i64, i64, ptr, ptr)

define void @chunk(ptr %words, i64 %begin, i64 %end) {
  %sizes = load ptr, ptr %words
  %operands_at = getelementptr i64, ptr %words, i64 1
  %operands = load ptr, ptr %operands_at
  %space_at = getelementptr i64, ptr %words, i64 2
  %space = load i64, ptr %space_at
  %share_at = getelementptr i64, ptr %words, i64 3
  %share = load i64, ptr %share_at
  %store_at = getelementptr i64, ptr %words, i64 4
  %store = load ptr, ptr %store_at
  %closure_at = getelementptr i64, ptr %words, i64 5
  %closure = load ptr, ptr %closure_at
  %grain_at = getelementptr i64, ptr %words, i64 6
  %grain = load i64, ptr %grain_at
  %repeats_in = getelementptr i64, ptr %words, i64 7
  %repeats = load i64, ptr %repeats_in
  %number = udiv i64 %begin, %grain
  %offset = mul i64 %number, %share
  %address = add i64 %space, %offset
  %own = inttoptr i64 %address to ptr
  br label %again
again:
  %i = phi i64 [0, %0], [%next, %again]
  call void @contract(
    ptr %sizes, ptr %operands, ptr %own, i64 %begin, i64 %end, ptr %store, ptr %closure)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %repeats
  br i1 %more, label %again, label %done
done:
  ret void
}
"""


class Case(NamedTuple):
    """Something to measure: sizes, addresses, arithmetic, NumPy's way (if it has one)."""

    sizes: dict[str, int]
    addresses: tuple[int, ...]
    flops: float
    numpy: Callable[[], Any] | None
    arrays: tuple[Any, ...]


class Body(NamedTuple):
    """A native body of the pool, as `parallel_for` takes it, and what must live as long."""

    code: int
    context: int
    count: int
    grain: int
    keeps: tuple[Any, ...]

    def seconds(self, threads: int, repeats: int = 1) -> float:
        """How long some runs take, one after the other."""
        run, start = pool().parallel_for, time.perf_counter()
        for _ in range(repeats):
            run(self.code, self.context, self.count, self.grain, threads)
        return time.perf_counter() - start


def peak_body(threads: int, rounds: int) -> tuple[Body, float]:
    """Runs rounds of independent multiply-adds on each thread, and how many operations it does."""
    target = host()
    lanes, chains = target.lanes(32), 24 if target.registers >= 32 else 12
    vector, module = ir.VectorType(ir.FloatType(), lanes), ir.Module()
    arguments = [("words", POINTER), ("begin", INTEGER), ("end", INTEGER)]
    _, builder, [words, begin, _] = declare(module, "peak", VOID, arguments, True)
    n = builder.load(words, typ=INTEGER, align=8)
    x = builder.load(
        builder.gep(words, [integer(8)], source_etype=ir.IntType(8)), typ=ir.FloatType(), align=4
    )
    out = builder.gep(
        words,
        [builder.add(builder.mul(begin, integer(64)), integer(64))],
        source_etype=ir.IntType(8),
    )
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
    words_ = np.zeros(1024 + 64 * threads, np.uint8)
    words_[:8].view(np.int64)[0], words_[8:12].view(np.float32)[0] = rounds, 0.5
    body = Body(library.address("peak"), words_.ctypes.data, threads, 1, (library, words_))
    return body, 2.0 * lanes * chains * rounds * threads


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


def contraction_body(case: Case, repeats: int = 1) -> Body:
    """A case as a body of the pool; `repeats` of each chunk, for tiny ones."""
    library = contraction_library("float32", host())
    code = compile_module(CODE, host(), symbols={"contract": library.address("contract")})
    sizes = size_array(case.sizes)
    launch = cut(sizes.tolist(), pool().threads, "float32")
    chunks = -(-launch.count // launch.grain)
    raw = np.zeros(launch.workspace * chunks + 64, np.uint8)
    operands = np.array(case.addresses[:2], np.uint64)
    closure = plain_closure(case.sizes, case.addresses[2], sizes.ctypes.data)
    words = np.array(
        [sizes.ctypes.data, operands.ctypes.data, raw.ctypes.data + -raw.ctypes.data % 64,
         launch.workspace, library.address("store_plain"), closure.ctypes.data, launch.grain,
         repeats], np.uint64,
    )  # fmt: skip
    keeps = (library, code, sizes, raw, operands, closure, words, case)
    return Body(code.address("chunk"), words.ctypes.data, launch.count, launch.grain, keeps)


class Figures(NamedTuple):
    """Medians: GFLOP/s, share of the peak, the peak; whether the peak held still; NumPy."""

    speed: float
    share: float
    peak: float
    steady: bool
    numpy: float | None


def measure(case: Case, threads: int, rounds: int = 7) -> Figures:
    """Rounds of peak, product, peak; then NumPy, whose threads spin on and would disturb them."""
    inner = 200 if case.flops < TINY else 1
    body = contraction_body(case, inner)
    repeats = max(1, int(SECONDS / min(body.seconds(threads) for _ in range(3))))
    probe, operations = peak_body(threads, 100_000)
    turns = max(1, int(SECONDS / min(probe.seconds(threads) for _ in range(3))))
    speeds, shares, peaks = [], [], []
    for _ in range(rounds):
        before = operations * turns / probe.seconds(threads, turns)
        speed = inner * case.flops * repeats / body.seconds(threads, repeats)
        after = operations * turns / probe.seconds(threads, turns)
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
    speeds = []
    for _ in range(9):
        start = time.perf_counter()
        case.numpy()
        speeds.append(case.flops / (time.perf_counter() - start) / 1e9)
    time.sleep(0.3)
    return statistics.median(speeds)


def compile_times() -> None:
    """Of each driver, on an empty cache and on a full one."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRAPHC_CACHE"] = folder
        for dtype in ("float32", "float32", "float64"):  # the first one makes LLVM ready
            found = []
            for _ in range(3):
                start = time.perf_counter()
                contraction_library.__wrapped__(dtype, host())
                found.append(1e3 * (time.perf_counter() - start))
            print(f"{dtype}  compiled {found[0]:5.1f} ms  loaded {min(found[1:]):5.1f} ms")
            for entry in os.scandir(folder + "/cpu"):
                os.unlink(entry)


def main() -> None:
    """Measure the named cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", help="all, without")
    parser.add_argument("--threads", default="1,2")
    options = parser.parse_args()
    compile_times()
    os.environ["GRAPHC_CACHE"] = "off"
    cases = {name: matmul_case(*sizes) for name, sizes in MATMULS.items()} | convolution_cases()
    print(f"\n{'case':24} threads   GFLOP/s   of peak      peak    NumPy        us")
    for name in options.cases or cases:
        for threads in map(int, options.threads.split(",")):
            found = measure(cases[name], threads)
            beside = f"{found.numpy:8.1f}" if found.numpy is not None else "       -"
            note = "" if found.steady else "  peak unsteady: the machine was shared"
            print(
                f"{name:24} {threads:7} {found.speed:9.1f} {found.share:9.1%} {found.peak:9.1f}"
                f" {beside} {cases[name].flops / found.speed / 1e3:9.1f}{note}",
                flush=True,
            )


if __name__ == "__main__":
    main()
