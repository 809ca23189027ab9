"""A bounded share of `tools/fuzz.py --control`, tests of that fuzzer, and what it has found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.graph import Tensor
from tests.control_fuzz import Program, Written, grow
from tests.control_fuzz_check import check, fails, shrink, smallest, ways_of
from tests.control_plain import Plain
from tests.control_support import DEVICES, loss_of, raised

PROGRAMS, BLOCK, NATIVE = 8, 4, 4  # of so many programs one is run by native code too


@pytest.mark.parametrize("first", range(0, PROGRAMS, BLOCK))
def test_loops_compute_what_python_does(first: int) -> None:
    for seed in range(first, first + BLOCK):
        program, ways = grow(seed), ways_of(seed, seed % NATIVE == 0)
        if failure := fails(program, ways):
            pytest.fail(f"seed {seed}: {failure}\n{smallest(program, ways)}")


# ---------------------------------------------------------------------------- the fuzzer


def test_a_seed_gives_the_same_program() -> None:
    assert grow(7).source() == grow(7).source()
    assert grow(7).source() != grow(8).source()


def test_programs_have_all_that_loops_can_do() -> None:
    text = "".join(grow(seed).source() for seed in range(150))
    for word in (
        "g.scan", "g.while_loop", "g.ifelse", "g.until", "g.assign", "g.random", "g.gradients",
        "go_backwards", "n_steps", "'taps': [-1, -3]", "'taps': [0, 2]", "max_steps", "checkpoint",
        "None, None", " @ ", "g.take", "g.cumsum", "[-1:]",
    ):  # fmt: skip
        assert word in text, word


def test_wrong_results_are_found_and_shrunk() -> None:
    program = next(p for p in map(grow, range(100)) if p.source().count("g.scan") > 1)

    def scans(smaller: Program) -> bool:
        return "g.scan" in smaller.source()

    small = shrink(program, scans)
    assert len(small.source()) < len(program.source()) / 2
    assert len(small.statements) < 4 and "g.scan" in small.source()


def test_a_difference_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    program = next(p for p in map(grow, range(100)) if p.plain and "g.scan" in p.source())
    check(program, ways_of(0, native=False)[:1])
    honest = Plain.scan

    def off_by_one(self: Plain, *arguments: Any, **options: Any) -> list[Any]:
        return [np.asarray(y) + 1 for y in honest(self, *arguments, **options)]

    monkeypatch.setattr(Plain, "scan", off_by_one)
    found = [fails(p, ways_of(0, native=False)[:1]) for p in map(grow, range(6)) if p.plain]
    assert any(found)


def test_what_is_printed_is_a_program() -> None:
    program = next(p for p in map(grow, range(100)) if p.plain)
    text = program.whole().removesuffix(")\n") + ", WAYS[:1])\n"
    exec("from tests.control_fuzz_check import WAYS\n" + text, {})
    assert Written(0, (), (), text=program.source()).used() == program.used()


# ---------------------------------------------------------------------------- what it has found


@pytest.mark.parametrize("device", DEVICES)
def test_a_size_that_a_guard_looks_at_is_known_in_later_runs(device: str) -> None:
    """Of a rank that only the feed tells; the optimised graph has no such size any more."""
    x = g.placeholder("float64", None)
    slope = g.grad(loss_of([x * 1]), x)
    with g.Session(device) as session:
        for shape in [(0, 0), (2, 1), (0, 0), (3, 2)]:
            assert session.run(slope, {x: np.ones(shape)}).shape == shape


@pytest.mark.parametrize("device", DEVICES)
def test_a_variable_that_decides_how_many_steps_a_gradient_goes_back(device: str) -> None:
    limit, x = g.Variable(np.float64(9.0)), g.placeholder("float64", [2])
    steps, y = g.while_loop(lambda i, y: g.sum(y) < limit, lambda i, y: (i + 1, y * 1.5), [0, x])
    fetches = [steps, g.grad(g.sum(y), x)]
    with g.Session(device) as session:
        for value, count in [(9.0, 4), (27.0, 7), (1.0, 0), (9.0, 4)]:
            session.set(limit, np.float64(value))
            found, slope = session.run(fetches, {x: np.ones(2)})
            assert found == count
            np.testing.assert_allclose(slope, np.full(2, 1.5**count))


def test_a_step_does_not_read_what_its_own_loop_has_inside() -> None:
    x = g.placeholder("float64", [4])
    inside: list[Tensor] = []

    def inner(q: Tensor) -> Tensor:
        inside.append(q * 3.0)
        return q + 1.0

    def step(h: Tensor) -> Tensor:
        return g.scan(inner, None, h, n_steps=2)[-1] + inside[-1]

    text = raised(g.ShapeError, lambda: g.scan(step, None, x, n_steps=2))
    assert "must be an output of it to be used in the loop around it" in text
    assert '"q"' in text


@pytest.mark.parametrize("device", ["interp", "cpu"])
def test_a_long_body_whose_values_are_each_made_of_the_one_before(device: str) -> None:
    """None is made again of one that is itself made again: the last would be made of the first."""
    x = g.placeholder("float64", [4])

    def step(h: Any, module: Any = g) -> Any:
        for k in range(60):
            h = module.tanh(h * 0.9 + 0.01 * k)
            h = module.sin(h) + module.sum(h) * 0.01
        return h

    want = step(step(np.ones(4), np), np)
    with g.Session(device) as session:
        got = session.run(g.scan(lambda h: step(h), None, x, n_steps=2)[-1], {x: np.ones(4)})
    np.testing.assert_allclose(got, want, rtol=1e-12)
