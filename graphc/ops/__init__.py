"""The ops: one record each, an op beside its adjoint. `OPS` is read off the modules."""

from __future__ import annotations

from types import ModuleType

from graphc.graph import Op
from graphc.ops import (
    activation,
    along_axis,
    arith,
    arrange,
    bodies,
    branch,
    broadcast,
    compare,
    compositions,
    contraction,
    control,
    convolution,
    creation,
    cumulative,
    determinant,
    einsum,
    elementary,
    factorizations,
    gather,
    gelu,
    gradient,
    grouped,
    index,
    interleave,
    joining,
    linalg,
    logic,
    loop,
    measure,
    moments,
    norms,
    operators,
    pooling,
    powers,
    random,
    recompute,
    reduce,
    rounding,
    select,
    shape,
    slicing,
    softmax,
    sorting,
    source,
    trigonometric,
    turned,
)

MODULES: tuple[ModuleType, ...] = (
    source, broadcast, control, compare, logic, select, arith, elementary, powers, trigonometric,
    rounding, gelu, activation, shape, contraction, turned, random, gradient, recompute,
    convolution, grouped, interleave, pooling,
    slicing, joining, arrange, gather, along_axis, bodies, loop, branch, index, creation, measure,
    cumulative, einsum, factorizations, linalg, moments, norms, reduce, sorting, softmax,
    determinant, compositions,
)  # fmt: skip


def _collect(modules: tuple[ModuleType, ...]) -> dict[str, Op]:
    found: dict[str, Op] = {}
    for module in modules:
        for value in vars(module).values():
            op = value if isinstance(value, Op) else getattr(value, "op", None)
            if isinstance(op, Op) and found.setdefault(op.name, op) is not op:
                raise AssertionError(f"two ops are called {op.name}")
    return found


OPS: dict[str, Op] = _collect(MODULES)

operators.install()
