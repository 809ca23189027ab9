"""The ops: one record each, an op beside its adjoint. `OPS` is the registry, read off the modules."""

from __future__ import annotations

from types import ModuleType

from graphc.graph import Op
from graphc.ops import (
    arith,
    broadcast,
    contraction,
    control,
    gradient,
    operators,
    random,
    shape,
    source,
)

MODULES: tuple[ModuleType, ...] = (
    source, broadcast, control, arith, shape, contraction, random, gradient,
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
