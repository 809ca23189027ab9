"""Native programs in many processes and threads: crowds on one cache, forks, spawns."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.runtime import cache
from graphc.runtime.once import once

ROOT = Path(__file__).resolve().parent.parent
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

MODEL = """
import multiprocessing, os, signal, sys, threading, time, warnings
import numpy as np
import graphc as g
from graphc.runtime.cpu import cores, device, target, threads
warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks
target.thread_count = threads.thread_count = lambda *_: 4
X = np.arange(90_000, dtype=np.float32).reshape(300, 300) / 90_000

def model():
    x = g.placeholder("float32", [None, None])
    y = g.nn.softmax(g.exp(x) @ x)
    return x, [g.sum(y * y, 0), g.gradients(g.sum(y * y), x), g.sort(y[:, 0])]

def digest(session, pair):
    x, fetches = pair
    return hash(b"".join(np.asarray(a).tobytes() for a in session.run(fetches, {x: X})))

def fork(work):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # a hang must not be the parent's
        try:
            work()
        except g.DeviceError as error:
            assert "make a new Session" in str(error), error
        except BaseException as error:
            sys.stderr.write(repr(error))
            os._exit(1)
        os._exit(0)
    return child

def ended(*children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
"""


def script(text: str, folder: Path | str = "off", seed: str = "0") -> str:
    """What a process prints that knows the model; it must end well and say nothing else."""
    environment = os.environ | {"GRAPHC_CACHE": str(folder), "PYTHONPATH": str(ROOT)}
    environment["PYTHONHASHSEED"] = seed
    done = subprocess.run(
        [sys.executable, "-c", MODEL + text],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# ---------------------------------------------------------------------------- the cache

CROWD = """
read, write = os.pipe()
def work():
    os.read(read, 1)
    os.close(write)
    os.write(1, f"{digest(g.Session(), model())}\\n".encode())  # at once, unlike print
children = [fork(work) for _ in range(64)]  # the modules are loaded; nothing is compiled yet
os.write(write, bytes(64))
assert ended(*children) == [0] * 64
"""
ONE = "print(digest(g.Session(), model()))"


@needs_fork
def test_a_crowd_on_an_empty_cache(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    assert len(set(script(CROWD, folder).split())) == 1
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files and {path.suffix for path in files} == {cache.SUFFIX}
    assert all(cache.DiskCache(path.parent).get(path.stem) for path in files)


TEXTS = """
from hashlib import sha256
from graphc.lower import lower
from graphc.graph import Graph
from graphc.passes import optimise
from graphc.plan import Call, all_steps
from graphc.runtime.cpu import generate as native
from graphc.runtime.opencl import generate
from graphc.runtime.opencl.capabilities import capabilities
from tests import opencl_fakes as fakes

def graph():
    x, labels = g.placeholder("float32", [None, 20]), g.placeholder("int64", [None])
    w = [g.Variable(np.ones(shape, np.float32)) for shape in [(20, 32), (32, 32), (32,), (32, 7)]]
    h = g.nn.gelu(x @ w[0])
    h = g.tanh(h @ w[1] + w[2]) * g.exp(-h) + g.log1p(g.sin(h) ** 2)
    states = g.scan(lambda a, s: g.tanh(a + s * 0.5) + s[::-1], h, w[2])
    last = g.nn.softmax(states @ w[3])
    loss = g.mean(g.log(g.take(last, labels, axis=1))) + g.sum(g.cumsum(h, 0)) + g.max(h)
    return Graph((loss, *g.gradients(loss, w), g.argmax(last, 1), g.random.normal([5, 5])))

def texts(plan, compile, device):
    for step in all_steps(plan.steps):
        if isinstance(step, Call):
            for routine in compile(step.kernel, device):
                yield repr((routine.code, [*getattr(routine, "helpers", ())]))

plan = lower(optimise(graph()))
cpu = fakes.device(type=fakes.CPU, native_vector_width_float=16)
fakes.platform("Maker", [gpu := fakes.device(), cpu])
devices = [(native, target.host())] + [(generate, capabilities(d)) for d in (gpu, cpu)]
for module, device in devices:
    found = list(texts(plan, module.compile_kernel, device))
    assert len(found) > 20
    print(sha256("".join(found).encode()).hexdigest())
"""


def test_all_processes_write_the_same_code() -> None:
    """Caches of compiled code ask by the text, which no order of a set may decide."""
    assert script(TEXTS, seed="1") == script(TEXTS, seed="2")


def _truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes) -> bytes:
    return data[:-7] + bytes([data[-7] ^ 4]) + data[-6:]


def _garbage(data: bytes) -> bytes:
    return random.Random(0).randbytes(len(data))


def test_damaged_entries_are_misses(tmp_path: Path) -> None:
    want = script(ONE, tmp_path)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*" + cache.SUFFIX)}
    assert len(whole) >= 3
    for (path, data), damage in zip(
        whole.items(), itertools.cycle((_truncated, _flipped, _garbage)), strict=False
    ):
        path.write_bytes(damage(data))
    assert script(ONE, tmp_path) == want
    assert {path: path.read_bytes() for path in whole} == whole


# ---------------------------------------------------------------------------- forks


@needs_fork
def test_children_run_what_the_parent_has_run_and_what_it_has_not() -> None:
    out = script("""
session, pair = g.Session(), model()
want = digest(session, pair)
def work():
    assert digest(session, pair) == want, "old"
    assert digest(g.Session(), model()) == want, "new"
    assert threading.active_count() > 1, "the child has no workers"
for _ in range(4):
    assert ended(fork(work)) == [0]
    assert digest(session, pair) == want
print("done")
""")
    assert out == "done\n"


@needs_fork
def test_forks_while_threads_run_and_compile() -> None:
    out = script("""
session, pair = g.Session(), model()
want, over, wrong = digest(session, pair), threading.Event(), []
def run():
    while not over.is_set():
        if digest(session, pair) != want:
            wrong.append(1)
def compile():
    while not over.is_set():
        if digest(g.Session(), model()) != want:
            wrong.append(2)
workers = [threading.Thread(target=work) for work in (run, run, compile)]
for worker in workers:
    worker.start()
def work():
    assert digest(session, pair) == want, "old"
    assert digest(g.Session(), model()) == want, "new"
codes = []
for _ in range(4):
    time.sleep(0.03)
    codes += ended(fork(work))
over.set()
for worker in workers:
    worker.join()
print(codes, wrong)
""")
    assert out == "[0, 0, 0, 0] []\n"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_of_multiprocessing(tmp_path: Path, method: str) -> None:
    if method != "spawn" and not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    (tmp_path / "worked.py").write_text(
        MODEL + "\ndef work(_):\n    return digest(g.Session(), model())"
    )
    out = script(f"""
sys.path.insert(0, {str(tmp_path)!r})
import worked
want = digest(g.Session(), model())
with multiprocessing.get_context({method!r}).Pool(2) as processes:
    found = processes.map_async(worked.work, range(4)).get(timeout=100)
print([one == want for one in found])
""")
    assert out == "[True, True, True, True]\n"


# ---------------------------------------------------------------------------- threads


def test_threads_that_come_first_get_the_same() -> None:
    together, made = threading.Barrier(4), []

    @once
    def build(kind: str) -> object:
        together.wait(30)  # all have found nothing, and go on to make one
        made.append(object())
        return made[-1]

    found: list[object] = []
    workers = [threading.Thread(target=lambda: found.append(build("one"))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(made) == 4 and len(set(map(id, found))) == 1
    assert found[0] is build("one")


def test_the_first_runs_of_a_process_come_together() -> None:
    out = script("""
gate, found = threading.Barrier(12), []
def work():
    gate.wait(60)
    found.append(digest(g.Session(), model()))
workers = [threading.Thread(target=work) for _ in range(12)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join(100)
print(len(found), len(set(found)))
""")
    assert out == "12 1\n"


def test_many_threads_run_one_session_at_sizes_of_their_own() -> None:
    x, w = g.placeholder("float32", ["n", 40]), g.Variable(np.eye(40, dtype=np.float32))
    fetches = [g.sum(g.exp(x @ w), 1), g.sort(x, axis=0), g.gradients(g.sum(g.exp(x @ w)), w)]
    added = g.assign_add(total := g.Variable(np.float32(0)), g.sum(x) * 0 + 1)
    wrong: list[Any] = []

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        try:
            for _ in range(12):
                n = int(rng.choice([0, 1, 7, 300, 3000]))
                fed = rng.normal(size=(n, 40)).astype(np.float32)
                rows, ordered, slope = session.run(fetches, {x: fed})
                grown = np.exp(fed.astype(np.float64))
                np.testing.assert_allclose(rows, grown.sum(1), rtol=1e-5)
                np.testing.assert_array_equal(ordered, np.sort(fed, 0))
                scale = np.abs(slope[0]).max()
                np.testing.assert_allclose(slope[0], fed.T @ grown, atol=1e-5 * scale)
                session.run(added, {x: fed})
        except BaseException as error:
            wrong.append(error)

    with g.Session() as session:
        workers = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert not any(worker.is_alive() for worker in workers), "deadlock"
        assert not wrong, wrong[0]
        assert session.get(total) == 16 * 12
