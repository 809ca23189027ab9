"""Whether a device computes what it must: asked once, on its first use with a driver.

In goes an open device; out comes nothing, or a `DeviceError` that says what it computed and what is
right. A driver that is wrong in a product, a reduction, a function, a barrier or an atomic would be
wrong somewhere in every program, and silently. The verdict is kept on disk by device and driver.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import lazy
from graphc.config import cache_folder
from graphc.dtypes import Array
from graphc.errors import DeviceError
from graphc.runtime.cache import DiskCache, content_key
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.drivers import hush
from graphc.runtime.opencl.selftest_kernels import DOUBLE, PLAIN

cl = lazy.Module("pyopencl")

GROUPS = 4
SIDE = 8
MOST_GROUP = SIDE * SIDE
# Units in the last place: what the specification grants the full profile (its section 7.4).
ULPS = {"exp": 3, "log": 3, "sin": 4, "tanh": 5, "sqrt": 3, "1/x": 2.5}


@dataclass(frozen=True)
class Bench:
    """A device with the compiled tests."""

    context: Any
    queue: Any
    program: Any
    known: Capabilities
    group: int

    def run(self, name: str, items: Sequence[int], group: Sequence[int], *arguments: Any) -> None:
        """Run a kernel over arrays, which it may change, and numbers."""
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        buffers = [cl.Buffer(self.context, flags, hostbuf=a) for a in arrays]
        left = iter(buffers)
        try:
            given = [next(left) if isinstance(a, np.ndarray) else np.int32(a) for a in arguments]
            getattr(self.program, name)(self.queue, tuple(items), tuple(group), *given)
            for array, buffer in zip(arrays, buffers, strict=True):
                cl.enqueue_copy(self.queue, array, buffer)
            self.queue.finish()
        finally:
            for buffer in buffers:
                buffer.release()


def admit(known: Capabilities, context: Any, queue: Any) -> None:
    """Refuse a device that fails; what has been found out once is not found out again."""
    reason = known.refusal() or verdict(known, lambda: examine(known, context, queue))
    if reason:
        raise DeviceError(f"{known.name} ({known.platform}) is refused: {reason}")


def verdict(known: Capabilities, find: Callable[[], str]) -> str:
    """The kept reason of a refusal ("": none), or what `find` finds, which is kept."""
    kept = remembered(known)
    if kept is not None:
        return kept
    reason = find()
    folder = cache_folder()
    if folder is not None:
        DiskCache(folder).put(_key(known), json.dumps(reason).encode())
    return reason


def remembered(known: Capabilities) -> str | None:
    """What is known of a device from an earlier use ("": it passed), or None."""
    folder = cache_folder()
    data = None if folder is None else DiskCache(folder).get(_key(known))
    if data is None:
        return None
    value = json.loads(data)
    return value if isinstance(value, str) else None


def _key(known: Capabilities) -> str:
    return content_key("opencl self-test 1", PLAIN, DOUBLE, known.driver, repr(ULPS))


def examine(known: Capabilities, context: Any, queue: Any) -> str:
    """Run all tests: "", or what was wrong first.

    An error of the driver that may pass, such as want of memory, is raised and no verdict.
    """
    group = _group(known)
    side = int(group**0.5)
    source = PLAIN + (DOUBLE if known.fp64 else "")
    options = ["-cl-std=CL1.2", f"-DGROUP={group}", f"-DSIDE={side}"]
    try:
        hush()
        program = cl.Program(context, source).build(options, cache_dir=False)
    except cl.RuntimeError as error:
        return f"its compiler fails: {str(error).strip().splitlines()[0]}"
    bench = Bench(context, queue, program, known, group)
    try:
        return next((wrong for test in TESTS for wrong in test(bench)), "")
    except cl.Error as error:
        raise DeviceError(f"the self-test of {known.name} could not run: {error}") from error


def _group(known: Capabilities) -> int:
    """Items of a work-group: a power of four within the limits."""
    most = min(MOST_GROUP, known.work_group, *known.work_items[:1])
    if len(known.work_items) < 2 or known.local_memory < 16 * MOST_GROUP:
        return 1
    return max(size for size in (1, 4, 16, 64) if size <= most)


def _matmul(bench: Bench) -> Iterator[str]:
    side = int(bench.group**0.5)
    rows, depth, columns = 2 * side, 3 * side, 4 * side
    a = (np.arange(rows * depth) % 13 - 6).astype(np.float32).reshape(rows, depth)
    b = (np.arange(depth * columns) % 11 - 5).astype(np.float32).reshape(depth, columns)
    c = np.full((rows, columns), np.nan, np.float32)
    bench.run("matmul", (4 * bench.group, 2), (bench.group, 1), a, b, c, depth, columns)
    yield from _same("a product of matrices", c, a @ b)


def _reduce(bench: Bench) -> Iterator[str]:
    count = GROUPS * bench.group
    x = np.sin(np.arange(count)).astype(np.float32)
    n = (np.arange(count) * 2654435761 % 2**31).astype(np.int32)
    most, sums = np.zeros(GROUPS, np.float32), np.zeros(GROUPS, np.int64)
    bench.run("reduce", (count,), (bench.group,), x, n, most, sums)
    yield from _same("a maximum", most, x.reshape(GROUPS, -1).max(1))
    wide = n.astype(np.int64) * 4294967311
    yield from _same("a sum of 64-bit integers", sums, wide.reshape(GROUPS, -1).sum(1))


def _turn(bench: Bench) -> Iterator[str]:
    x = np.arange(GROUPS * bench.group, dtype=np.int32)
    rounds = bench.group + 5
    wanted = np.roll(x.reshape(GROUPS, -1), -rounds, 1) + rounds
    bench.run("turn", x.shape, (bench.group,), x, rounds)
    yield from _same("an exchange over barriers", x, wanted.ravel())


def _count(bench: Bench) -> Iterator[str]:
    x = (np.arange(GROUPS * bench.group) * 7919 % 1009).astype(np.int32)
    counts, most = np.zeros(16, np.int32), np.zeros(1, np.int32)
    bench.run("count", x.shape, (bench.group,), x, counts, most)
    yield from _same("an atomic sum", counts, np.bincount(x & 15, minlength=16).astype(np.int32))
    yield from _same("an atomic maximum", most, x.max(keepdims=True))


def _bits(bench: Bench) -> Iterator[str]:
    x = (np.arange(GROUPS * bench.group, dtype=np.uint64) * 2654435761 + 12345).astype(np.uint32)
    x &= np.uint32(0xFF7FFFFF)  # no NaN: these may lose bits in passing
    y, z = np.zeros_like(x), np.zeros(x.shape, np.uint64)
    bench.run("bits", x.shape, (bench.group,), x, y, z)
    wide = x.astype(np.uint64)
    high = (wide * np.uint64(0xD2511F53) >> np.uint64(32)).astype(np.uint32)
    rotated = x << np.uint32(13) | x >> np.uint32(19)
    yield from _same("32-bit integers", y, high ^ rotated ^ x >> np.uint32(3) ^ x)
    signed = (x.view(np.int32).astype(np.int64) >> 2).view(np.uint64)
    product = wide * np.uint64(0xCD9E8D57)
    yield from _same("64-bit integers", z, product ^ wide << np.uint64(40) ^ signed)


SPECIAL = np.array(
    [0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 2.5, -2.5, 88.0, -87.0], np.float32
)


def _functions(bench: Bench) -> Iterator[str]:
    count = GROUPS * bench.group
    usual = np.linspace(-20, 20, max(count, len(SPECIAL)), dtype=np.float32)
    x = np.concatenate([SPECIAL, usual])[: -(-max(count, 12) // bench.group) * bench.group]
    y = np.zeros((9, len(x)), np.float32)
    bench.run("functions", x.shape, (bench.group,), x, y)
    with np.errstate(all="ignore"):
        v = x.astype(np.float64)
        wanted = [np.exp(v), np.log(abs(v)), np.sin(v), np.tanh(v), np.sqrt(v), 1 / v]
        for (name, ulps), got, want in zip(ULPS.items(), y, wanted, strict=False):
            yield from _near(name, got, want, ulps)
        yield from _same("2x", y[6], x * 2)
        yield from _same("rounding", y[7], np.rint(x))
        kind = np.where(np.isnan(x), 1, np.where(x < 0, 2, 3)).astype(np.float32)
    yield from _same("a comparison", y[8], kind)


def _halves(bench: Bench) -> Iterator[str]:
    count = GROUPS * bench.group
    awkward = np.array([0.1, -1 / 3, 65504, 1e-7, 2049, -0.0, np.inf], np.float32)
    x = np.resize(awkward, count)
    stored, y = np.zeros(count, np.float16), np.zeros(count, np.float32)
    bench.run("halves", x.shape, (bench.group,), x, stored, y)
    yield from _same("float16", stored, x.astype(np.float16))
    yield from _same("float16, read again", y, x.astype(np.float16).astype(np.float32))


def _doubles(bench: Bench) -> Iterator[str]:
    if not bench.known.fp64:
        return
    x = np.linspace(1e-12, 1, GROUPS * bench.group)
    y = np.zeros((2, len(x)))
    bench.run("doubles", x.shape, (bench.group,), x, y)
    yield from _near("float64", y[0], x * x + 1.0, 1)
    yield from _near("exp in float64", y[1], np.exp(x), 4)


TESTS = (_matmul, _reduce, _turn, _count, _bits, _functions, _halves, _doubles)


def _same(what: str, got: Array, want: Array) -> Iterator[str]:
    """What is wrong, if the values are not equal; NaN equals NaN."""
    nans = got.dtype.kind == "f"
    wrong = ~np.isclose(got, want, 0, 0, equal_nan=nans) if nans else got != want
    yield from _first(what, got, want, wrong)


def _near(what: str, got: Array, want: Array, ulps: float) -> Iterator[str]:
    """What is wrong, if a value is further away than so many units in the last place."""
    rounded = want.astype(got.dtype)
    finite = np.isfinite(rounded)
    unit = np.spacing(np.maximum(np.abs(np.where(finite, rounded, 1)), np.finfo(got.dtype).tiny))
    # NumPy's own functions and the rounding of `want` may be half a unit off.
    error = np.abs(np.where(finite, got, 0).astype(np.float64) - np.where(finite, want, 0))
    far = ~(error <= (ulps + 1) * unit)  # NaN is far from everything
    special = ~finite & ~((got == rounded) | (np.isnan(got) & np.isnan(rounded)))
    yield from _first(what, got, rounded, far | special)


def _first(what: str, got: Array, want: Array, wrong: Array) -> Iterator[str]:
    if wrong.any():
        at = int(np.argmax(wrong))
        yield (
            f"its self-test found {what} wrong: {got.flat[at]!s} instead of {want.flat[at]!s} "
            f"(element {at} of {got.size})"
        )
