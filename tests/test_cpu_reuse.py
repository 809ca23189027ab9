"""Code that is generated once for kernels of one structure, and compiled once for one text."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest

import graphc as g
from graphc.kernel import Buffer, Kernel
from graphc.lower import lower
from graphc.plan import Call
from graphc.runtime.cpu.linking import MOST, Linker
from graphc.runtime.cpu.program import CpuProgram
from graphc.runtime.cpu.reuse import Reuse
from graphc.runtime.cpu.routine import Routine
from graphc.runtime.cpu.target import Target, host
from tests.cpu_support import CODE, graph_of, interpreted, program_of


def test_equal_code_is_compiled_once_and_goes_some_time_after_its_last_program() -> None:
    x = g.placeholder("float32", (3,))
    graph = graph_of(x * 2.0, inputs=(x,))
    [kernel] = [step.kernel for step in lower(graph).steps if isinstance(step, Call)]
    [one] = interpreted(kernel, host())
    fresh = Linker()
    first, second = fresh.link(one, host()), fresh.link(one, host())
    assert first is second
    gone = weakref.ref(first)
    del first, second
    others = [replace(one, code=f"{CODE}; {k}") for k in range(MOST)]
    for other in others[1:]:
        fresh.link(other, host())
    gc.collect()
    assert gone() is fresh.link(one, host())
    for other in others:
        fresh.link(other, host())
    gc.collect()
    assert gone() is None


def test_kernels_of_one_structure_are_generated_once() -> None:
    x, w = g.placeholder("float32", ["n", 3]), g.placeholder("float64", ["n", 3])
    outputs = [g.exp(x) * 2.0, g.exp(g.sort(x, axis=0)) * 2.0, g.exp(x) * -0.0, g.exp(x) * 0.0]
    asked: list[Kernel] = []

    def generate(kernel: Kernel, target: Target) -> list[Routine]:
        asked.append(kernel)
        return interpreted(kernel, target)

    reuse = Reuse(generate)
    for output in [*outputs, outputs[0], g.exp(w) * 2.0]:
        fed = (w,) if output.dtype is w.dtype else (x,)
        program = CpuProgram(lower(graph_of(output, inputs=fed)), reuse, host())
        assert all(native.routine.kernel.lines for native in program.recipe.natives)
    assert len(asked) == 4


def test_reused_routines_have_buffers_of_their_own() -> None:
    x = g.placeholder("float32", ["n"])
    [one, two] = [
        step.kernel
        for k in range(2)
        for step in lower(graph_of(g.exp(x) + 1.0, inputs=(x,))).steps
        if isinstance(step, Call)
    ]
    made_up = Buffer(one.stores[0].buffer.type, "partial")

    def generate(kernel: Kernel, target: Target) -> list[Routine]:
        [routine] = interpreted(kernel, target)
        return [replace(routine, buffers=(*routine.buffers, made_up))] * 2

    reuse = Reuse(generate)
    first, again = reuse(one, host()), reuse(two, host())
    assert again[0].kernel is two and again[0].buffers == again[1].buffers
    assert not set(first[0].buffers) & set(again[0].buffers)
    assert again[0].writes == {two.stores[0].buffer}


def test_code_is_dumped(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_DUMP", str(tmp_path))
    x = g.placeholder("float32", (3,))
    program_of(graph_of(g.exp(x), inputs=(x,)))
    [file] = (tmp_path / "code").glob("exp-*.ll")
    assert file.read_text() == CODE
