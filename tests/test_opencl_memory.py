"""Memory on OpenCL devices: errors of lacking it, what is freed when, and where results lie.

Where no driver is, all of it is skipped; CI installs PoCL.
"""

from __future__ import annotations

import gc
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.runtime.opencl.device import OpenclDevice, open_opencl
from graphc.runtime.opencl.memory import Staging
from graphc.runtime.opencl.platforms import look
from graphc.runtime.opencl.results import LARGE

pytestmark = pytest.mark.skipif(not look().devices, reason="no OpenCL driver is installed")
MANY = 2 * LARGE // 4  # float32 elements of a large result


@pytest.fixture(scope="module")
def device() -> OpenclDevice:
    return open_opencl("opencl")


def less(device: OpenclDevice, **limits: Any) -> OpenclDevice:
    """The same device, which reports less."""
    context, handle = device.memory.context, device.context_device
    return OpenclDevice(context, handle, device.capabilities.without(**limits), "opencl:less")


def here(offset: int = 0) -> str:
    """The line of the caller, as errors name it."""
    return f"test_opencl_memory.py:{sys._getframe(1).f_lineno + offset}"


def listed(error: pytest.ExceptionInfo[g.DeviceError]) -> list[tuple[str, int, str]]:
    """Name, bytes and origin of each tensor in an error."""
    found = re.findall(r"^  %(\S+): ([\d,]+) bytes, (.*)$", str(error.value), re.M)
    return [(name, int(count.replace(",", "")), where) for name, count, where in found]


# ---------------------------------------------------------------------------- lacking it


def test_what_lives_at_the_worst_step_is_listed_with_its_lines(device: OpenclDevice) -> None:
    x = g.placeholder("float32", [None], "x")
    w, w_line = g.Variable(np.ones(2**18, np.float32), name="w"), here()
    first, first_line = g.cumsum(x, 0, name="first"), here()
    last, last_line = g.cumsum(first[: 2**17] * w[: 2**17], 0, name="last"), here()
    with g.Session(device=less(device, global_memory=2**20)) as session:
        with pytest.raises(g.DeviceError, match=r"out of memory.* 1,048,576 in all") as caught:
            session.run([first, last], {x: np.ones(2**19, np.float32)})
        found = listed(caught)
        assert sorted(map(str, found[:2])) == sorted(
            map(str, [("x", 2**21, "fed"), ("first", 2**21, f"made at {first_line}")])
        )
        assert found[2] == ("w", 2**20, f"made at {w_line}")
        assert found[3][1] == 2**19 and last_line in found[3][2]
        assert all(count <= 64 for _, count, _ in found[4:])


def test_at_most_ten_are_listed_the_largest_first(device: OpenclDevice) -> None:
    feeds = {g.placeholder("float32", [None], f"x{n}"): np.ones(n * 2**12) for n in range(1, 15)}
    total = g.sum(g.concat(list(feeds)))
    with g.Session(device=less(device, global_memory=2**20)) as session:
        with pytest.raises(g.DeviceError, match="out of memory") as caught:
            session.run(total, feeds)
        sizes = [count for _, count, _ in listed(caught)]
        assert len(sizes) == 10 and sizes == sorted(sizes, reverse=True)
        assert 14 * 2**14 in sizes
        assert session.run(total, {x: np.ones(9) for x in feeds}) == 9 * 14


@pytest.mark.parametrize(
    "limits", [{"allocation_limit": 2**20}, {"global_memory": 2**21}], ids=["one", "all"]
)
def test_a_session_goes_on_after_it_found_no_memory(
    device: OpenclDevice, limits: dict[str, int]
) -> None:
    x, w = g.placeholder("float32", [None], "x"), g.Variable(np.zeros(4, np.float32), name="w")
    grown = g.sum(g.cumsum(g.cumsum(x, 0) * 2.0, 0) > 0.0)
    step = [g.assign(w, w + 1.0), grown]
    with g.Session(device=less(device, **limits)) as session:
        for _ in range(3):
            assert session.run(step, {x: np.ones(50_000)})[1] == 50_000
        for _ in range(2):
            with pytest.raises(g.DeviceError, match="out of memory") as caught:
                session.run(step, {x: np.ones(500_000)})
            assert listed(caught)[0][1] == 2_000_000
        np.testing.assert_array_equal(session.get(w), 3.0)
        assert session.run(step, {x: np.ones(7)})[1] == 7
        np.testing.assert_array_equal(session.get(w), 4.0)


def test_a_variable_that_does_not_fit(device: OpenclDevice) -> None:
    w = g.Variable(np.zeros(2**19, np.float32), name="w")
    with g.Session(device=less(device, allocation_limit=2**20)) as session:
        with pytest.raises(g.DeviceError, match="2,097,152 bytes were asked for") as caught:
            session.run(g.sum(w))
        assert listed(caught)[0][0] == "w"


def test_what_is_kept_for_later_is_given_up_first(
    device: OpenclDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, x = less(device), g.placeholder("float32", [None], "x")
    with g.Session(device=small) as session:
        calls = [session.prepare(g.cumsum(g.cumsum(x, 0), 0) * float(n), [x]) for n in range(3)]
        for call in calls:
            call(np.ones(1000, np.float32))
        kept = [len(program._idle) for program in small.memory.holders]
        make, failed = small.memory._allocated, []

        def scarce(size: int) -> Any:
            if any(program._idle for program in small.memory.holders):
                failed.append(size)
                raise MemoryError(f"{size} bytes were asked for")
            return make(size)

        monkeypatch.setattr(small.memory, "_allocated", scarce)
        calls[0](np.ones(5000, np.float32))
        assert sum(kept) == 3 and failed


# ---------------------------------------------------------------------------- freeing it


class Alive:
    """Counts buffers of the driver, and their bytes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        cl = pytest.importorskip("pyopencl")
        self.sizes: dict[int, int] = {}
        sizes = self.sizes

        class Counted(cl.Buffer):  # type: ignore[misc, name-defined, unused-ignore]
            def __init__(self, *args: Any, **keywords: Any) -> None:
                super().__init__(*args, **keywords)
                sizes[id(self)] = self.size

            def __del__(self) -> None:
                sizes.pop(id(self), None)

        patch.setattr(cl, "Buffer", Counted)

    @property
    def count(self) -> int:
        return len(self.sizes)


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Alive]:
    gc.collect()
    gc.disable()  # what is freed here is freed by those who hold it
    yield Alive(monkeypatch)
    gc.enable()


def _training() -> tuple[Any, Any, Any]:
    x = g.placeholder("float32", [None, 64], "x")
    w = g.Variable(np.ones((64, MANY // 64), np.float32), name="w")
    y = x @ w
    return x, w, [y, g.mean(y), g.optim.Adam(0.01).minimize(g.mean(y * y))]


def test_close_frees_everything_and_what_was_given_stays(alive: Alive) -> None:
    x, w, fetches = _training()
    array = np.ones((5, 64), np.float32)
    session = g.Session(device="opencl")
    step, mean = session.prepare(fetches, [x]), session.prepare(fetches[1], [x])
    results = [step(array)[0] for _ in range(3)]
    mean(array)
    value = session.get(w)
    copies = [each.copy() for each in (*results, value)]
    assert alive.count > 4 and sum(alive.sizes.values()) > 3 * value.nbytes
    session.close()
    assert alive.sizes == {}
    for kept, copy in zip((*results, value), copies, strict=True):
        np.testing.assert_array_equal(kept, copy)
    for again in (step, mean, lambda a: session.run(fetches, {x: a})):
        for rows in (5, 6):
            with pytest.raises(g.DeviceError, match="the session is closed"):
                again(np.ones((rows, 64), np.float32))
    assert alive.sizes == {}
    session.close()


def test_close_while_others_run(alive: Alive) -> None:
    x = g.placeholder("float32", [None], "x")
    session, array = g.Session(device="opencl"), np.ones(MANY, np.float32)
    call = session.prepare(g.cumsum(x, 0) * 2.0, [x])
    call(array)
    found: list[Any] = []

    def work() -> None:
        try:
            while True:
                result = call(array)
                assert result[-1] == 2.0 * MANY
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    session.close()
    for thread in threads:
        thread.join()
    texts = [str(error).splitlines()[0] for error in found]
    assert texts == ["run: the session is closed"] * 4
    found.clear()  # what these hold
    assert alive.sizes == {}


@pytest.mark.parametrize("check", [None, "nan", "reference"])
def test_leaving_a_with_block_frees_everything(alive: Alive, check: str | None) -> None:
    x, _, fetches = _training()
    with g.Session(device="opencl", check=check) as session:
        session.run(fetches, {x: np.ones((5, 64), np.float32)})
        session.run(fetches[:2], {x: np.ones((5, 64), np.float32)})
        assert alive.count
    assert alive.sizes == {}


def test_a_session_that_is_dropped_frees_everything(alive: Alive) -> None:
    x, _, fetches = _training()
    session = g.Session(device="opencl")
    for _ in range(3):
        y = session.run(fetches, {x: np.ones((5, 64), np.float32)})[0]
    assert alive.count
    del session
    gc.collect()
    assert alive.sizes == {}
    assert y.shape == (5, MANY // 64)


def test_an_error_in_a_run_leaves_no_memory_behind(alive: Alive) -> None:
    x, at = g.placeholder("float32", [None], "x"), g.placeholder("int64", [None], "at")
    with g.Session(device="opencl") as session:
        call = session.prepare(g.gather(x, at) * 2.0, [x, at])
        call(np.ones(MANY, np.float32), np.zeros(MANY, np.int64))
        before = alive.count
        for _ in range(5):
            with pytest.raises(g.ShapeError, match="out of range"):
                call(np.ones(MANY, np.float32), np.full(MANY, MANY))
        assert alive.count <= before
        call(np.ones(MANY, np.float32), np.zeros(MANY, np.int64))
        assert alive.count == before


# ---------------------------------------------------------------------------- results


@pytest.fixture(params=[True, False], ids=["unified", "apart"])
def opened(device: OpenclDevice, request: pytest.FixtureRequest) -> Iterator[g.Session]:
    with g.Session(device=less(device, unified=request.param), seed=3) as session:
        yield session


def test_large_results_are_the_callers_own(opened: g.Session) -> None:
    x = g.placeholder("float32", [None], "x")
    array = np.arange(MANY, dtype=np.float32)
    call = opened.prepare(
        [x + 1.0, x + 1.0, g.reshape(x + 1.0, (2, -1)), x, g.exp(-x), x[::2] * 2.0], [x]
    )
    kept = [call(array * n) for n in range(4)]
    for n, found in enumerate(kept):
        fed = array * n
        wanted = [fed + 1, fed + 1, (fed + 1).reshape(2, -1), fed, np.exp(-fed), fed[::2] * 2]
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6)
            assert got.flags.writeable and got.flags.c_contiguous
    for each in kept[1]:
        each[...] = -1
    np.testing.assert_array_equal(kept[2][0], array * 2 + 1)
    np.testing.assert_array_equal(call(array)[0], array + 1)


def test_memory_of_dropped_results_is_used_again(opened: g.Session) -> None:
    x = g.placeholder("float32", [None], "x")
    call = opened.prepare(x * 2.0, [x])
    array = np.ones(MANY, np.float32)
    first = call(array)
    place, view = first.ctypes.data, first[:10]
    del first
    assert call(array).ctypes.data != place
    np.testing.assert_array_equal(view, 2.0)
    del view
    found = {call(array).ctypes.data for _ in range(4)}
    assert place in found and len(found) <= 2


def test_arrays_pass_where_the_device_copies_by_itself(
    device: OpenclDevice, monkeypatch: pytest.MonkeyPatch, alive: Alive
) -> None:
    x = g.placeholder("float32", [None, 2], "x")
    passed: list[int] = []
    like = Staging.like
    monkeypatch.setattr(Staging, "like", lambda self, a: passed.append(a.nbytes) or like(self, a))
    for unified, count in ((True, 0), (False, 3)):
        passed.clear()
        with g.Session(device=less(device, unified=unified)) as session:
            call = session.prepare([x * 2.0, g.sum(x), g.reshape(x * 2.0, (-1,))], [x])
            for rows in (MANY, MANY // 2, 2 * MANY, 3):
                array = np.arange(2 * rows, dtype=np.float32).reshape(-1, 2)
                for fed in (array, np.asfortranarray(array)):
                    doubled, _, flat = call(fed)
                    np.testing.assert_array_equal(doubled, array * 2.0)
                    np.testing.assert_array_equal(flat, array.reshape(-1) * 2.0)
            assert len(passed) == 6 * count
            del call
        assert alive.sizes == {}


def test_large_updates_land(opened: g.Session) -> None:
    w = g.Variable(np.zeros(MANY, np.float32), name="w")
    x = g.placeholder("float32", [None], "x")
    step = [g.assign(w, w + x), w * 2.0, w + x]
    fed = np.ones(MANY, np.float32)
    for n in range(4):
        _, doubled, after = opened.run(step, {x: fed})
        np.testing.assert_array_equal(doubled, 2.0 * n)
        np.testing.assert_array_equal(after, n + 1.0)
        if n == 1:
            np.testing.assert_array_equal(opened.get(w), 2.0)
    for rows in (1, MANY, 3, 2 * MANY):
        y = opened.run(g.cumsum(x, 0), {x: np.ones(rows, np.float32)})
        assert y[-1] == rows
