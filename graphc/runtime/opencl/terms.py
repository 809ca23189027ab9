"""Terms of reductions that are stored first: functions that drivers compute on vectors only.

Enters: a `Stage`. Leaves: the stages that do the same. Where a work-group is one thread, the
logarithms in a loop that adds them up are ten times slower than those in a strip (`strips.py`). So
the terms of such a reduction are a stage of their own, as long as they are not more than one of the
arrays that they are made of: what a run needs of memory stays of its order.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.collapse import collapse
from graphc.dims import product
from graphc.dtypes import DType
from graphc.kernel import ARGUMENTS, Axis, Buffer, Kernel, Store, kinds_of, read
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.products import SLOW
from graphc.runtime.opencl.stages import Stage
from graphc.scalar import Kind, Scalar, walk
from graphc.types import TensorType


def stored_terms(stage: Stage, capabilities: Capabilities) -> list[Stage]:
    """The stages of a stage: itself, or those of terms and itself over them."""
    kernel = stage.kernel
    if capabilities.type != "cpu" or kernel.ordered:
        return [stage]
    formulas = [store.value for store in kernel.stores]
    kinds, made = kinds_of(*formulas), dict[Scalar, Scalar]()
    found: list[Stage] = []
    for part in walk(*formulas):
        operands = tuple([made[x] for x in part.operands])
        if part.primitive == "reduce" and (axes := _axes(kernel, part, kinds)) is not None:
            first, element = _stored(kernel, operands[0], axes, kinds[part.operands[0]])
            found.append(Stage(first, stage.wanted))
            operands = (element,)
        same = all(a is b for a, b in zip(operands, part.operands, strict=True))
        made[part] = part if same else Scalar(part.primitive, operands, part.value)
    if not found:
        return [stage]
    stores = tuple(Store(s.buffer, s.index, made[s.value], s.ordered) for s in kernel.stores)
    changed = Kernel(kernel.name, kernel.axes, stores, kernel.lines)
    return [*found, Stage(collapse(changed), stage.wanted)]


def _axes(kernel: Kernel, part: Scalar, kinds: Mapping[Scalar, Kind]) -> tuple[Axis, ...] | None:
    """The axes over which the terms of a reduction are stored; None where they are not."""
    inside = list(walk(*part.operands))
    if part.value[0] in ARGUMENTS or any(f.primitive == "reduce" for f in inside):
        return None
    kind = kinds[part.operands[0]]
    if not isinstance(kind, DType) or not kind.is_float:
        return None
    if not any(f.primitive in SLOW and _is_float(kinds[f]) for f in inside):
        return None
    free = {f.value for f in inside if f.primitive == "position"}
    axes = tuple([axis for axis in (*kernel.axes, *part.value[1]) if axis in free])
    size = product(axis.extent for axis in axes)
    buffers = {f.value[0] for f in inside if f.primitive == "read"}
    if free != set(axes) or not set(part.value[1]) <= free:
        return None
    return axes if any(product(b.type.shape or ()) == size for b in buffers) else None


def _is_float(kind: Kind) -> bool:
    return isinstance(kind, DType) and kind.is_float


def _stored(
    kernel: Kernel, body: Scalar, axes: tuple[Axis, ...], dtype: Kind
) -> tuple[Kernel, Scalar]:
    """The kernel that stores the terms, and the read of one of them."""
    assert isinstance(dtype, DType)
    buffer = Buffer(TensorType(dtype, tuple(axis.extent for axis in axes)), "terms")
    index = tuple(axis.position for axis in axes)
    first = Kernel(kernel.name, axes, (Store(buffer, index, body),), kernel.lines)
    return collapse(first), read(buffer)(*index)
