"""A bounded share of `tools/fuzz.py`, and tests of the fuzzer itself."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fuzz import EVERY, USUAL, Program, fails, grow, shrink

PROGRAMS, BLOCK = 240, 20


@pytest.mark.parametrize("first", range(0, PROGRAMS, BLOCK))
def test_optimised_graphs_compute_what_plain_ones_do(first: int) -> None:
    for seed in range(first, first + BLOCK):
        program = grow(seed)
        on = EVERY if seed % 8 == 0 else USUAL  # native code takes time to compile
        if fails(program, on):
            small = shrink(program, lambda smaller: fails(smaller, on))  # noqa: B023
            pytest.fail(f"seed {seed}: {fails(small, on)}\n{small.source()}")


def test_a_seed_gives_the_same_program() -> None:
    assert grow(7).source() == grow(7).source()
    assert grow(7).source() != grow(8).source()


def test_programs_are_graphs_not_single_ops() -> None:
    reuse = [
        sum(program.steps[i].op is not None for step in program.steps for i, _ in step.operands)
        for program in map(grow, range(20))
    ]
    assert np.mean(reuse) > 2


def test_shrinking_keeps_the_failure_and_drops_the_rest() -> None:
    def has_add(program: Program) -> bool:
        return any(step.op is not None and step.op.name == "add" for step in program.steps)

    program = next(p for p in map(grow, range(1000)) if has_add(p) and len(p.steps) > 8)
    small = shrink(program, has_add)
    assert has_add(small)
    assert [step.op.name for step in small.steps if step.op is not None] == ["add"]
    scope: dict[str, object] = {}
    exec(small.source(), scope)
