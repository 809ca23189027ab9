"""Kernels of all ops as generated code, against the interpreter of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from graphc.dims import Symbol
from graphc.dtypes import DType, float16, float32, uint8
from graphc.graph import Graph, Op
from graphc.kernel import Buffer, Kernel
from graphc.passes.specialise import specialise
from graphc.plan import Call
from graphc.runtime.cpu.target import Target, host
from graphc.runtime.device import Environment
from graphc.runtime.interp.device import InterpProgram
from tests.nest_support import Compiled, empty
from tests.support import ENTROPY_WORDS, SPELLINGS, apply, inputs_of
from tests.support import Compiled as Optimised
from tests.test_interp import TABLE

ULP = 4


def hold(got: Any, want: Any, what: str, sums: bool, ulp: int = ULP) -> None:
    """Equal, floats but for their last digits; of sums, the last digits of their terms."""
    assert (got.dtype, got.shape) == (want.dtype, want.shape), what
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    finite = np.abs(want[np.isfinite(want)].astype(np.float64))
    unit = np.finfo(got.dtype).eps
    terms = 4.0 * (1.0 + finite.max(initial=0.0)) if sums else min(1.0, finite.max(initial=0.0))
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_allclose(
            got.astype(np.float64), want.astype(np.float64), rtol=ulp * unit,
            atol=ulp * unit * terms, err_msg=what,
        )  # fmt: skip


def check_plan(
    graph: Graph, arrays: Sequence[Any], sizes: dict[Symbol, int], what: str,
    target: Target | None = None, grains: Sequence[int] = (7, 1, 1000),
) -> None:  # fmt: skip
    """Every kernel of a graph, over what the interpreter gives it, must give what that makes."""
    program = InterpProgram(graph)
    buffers = program.buffers(list(arrays), Environment(sizes, {}, ENTROPY_WORDS))
    for step in program.plan.steps:
        if isinstance(step, Call):
            check_kernel(step.kernel, buffers, sizes, what, target, grains)


def check_kernel(
    kernel: Kernel, buffers: dict[Buffer, Any], sizes: dict[Symbol, int], what: str,
    target: Target | None = None, grains: Sequence[int] = (7, 1, 1000),
) -> None:  # fmt: skip
    """One kernel, over arrays that the interpreter has made."""
    arrays = {b: np.ascontiguousarray(buffers[b]) for b in kernel.reads()}
    arrays = {b: a.reshape(buffers[b].shape) for b, a in arrays.items()}
    outputs = {store.buffer: empty(store.buffer, sizes) for store in kernel.stores}
    fault = Compiled(kernel, target).run(arrays | outputs, sizes, grains)
    assert fault is None, what
    sums = any(part.primitive == "reduce" for part in kernel.formulas())
    for buffer, array in outputs.items():
        hold(array, np.asarray(buffers[buffer]), what, sums)


def _label(value: Any) -> str:
    return value.name if isinstance(value, (Op, DType)) else str(value)


@pytest.mark.parametrize(("op", "dtype"), TABLE, ids=_label)
def test_code_is_the_kernel(op: Op, dtype: DType) -> None:
    for case in op.domain.cases:
        arrays = inputs_of(op, case, dtype)
        tensors = [SPELLINGS["static"](array) for array in arrays]
        graph = specialise(Graph(apply(op, tensors, case.attrs), (), tuple(tensors)))
        what = f"{op.name} of {[a.shape for a in arrays]} {case.attrs}"
        check_plan(graph, arrays, {}, what)


NARROWER = [row for row in TABLE if row[1] in (float32, float16, uint8) or not row[0].params]


@pytest.mark.parametrize("bits", [128, 256])
@pytest.mark.parametrize(("op", "dtype"), NARROWER, ids=_label)
def test_code_for_narrower_processors(op: Op, dtype: DType, bits: int) -> None:
    case = op.domain.cases[-1]
    arrays = inputs_of(op, case, dtype)
    tensors = [SPELLINGS["static"](array) for array in arrays]
    graph = specialise(Graph(apply(op, tensors, case.attrs), (), tuple(tensors)))
    check_plan(graph, arrays, {}, f"{op.name} {case.attrs}", host().narrowed(bits))


@pytest.mark.parametrize("op", [op for op, dtype in TABLE if dtype is float32], ids=_label)
def test_code_of_symbolic_sizes(op: Op) -> None:
    for case in op.domain.cases:
        arrays = inputs_of(op, case, float32)
        tensors = [SPELLINGS["symbolic"](array) for array in arrays]
        outputs = apply(op, tensors, case.attrs)
        compiled = Optimised.of(outputs, tensors, [a.shape for a in arrays])
        what = f"{op.name} of {[a.shape for a in arrays]} {case.attrs}"
        check_plan(compiled.graph, arrays, dict(compiled.sizes), what)
