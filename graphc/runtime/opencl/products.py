"""Kernels before and after a product of matrices, where they are better apart from it.

Enters: a kernel, collapsed. Leaves: the kernels that do the same, in order; the kernel itself where
it is best whole. Operands in half precision are copied in that of the sum first. And where a
work-group is one thread, what drivers compute quickly for vectors only (the error function of
gelu, logarithms) is left to a kernel of its own, which has these: to read and write the sums once
more costs less than calling such a function for each of them.
"""

from __future__ import annotations

from graphc.collapse import collapse
from graphc.contractions import match, with_copies
from graphc.kernel import Buffer, Kernel, Store, read
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.primitives import FUNCTIONS
from graphc.runtime.opencl.tiles import pays
from graphc.scalar import Scalar, walk
from graphc.types import TensorType

QUICK = frozenset(("exp", "tanh"))  # of single elements in a loop, too
SLOW = frozenset(FUNCTIONS) - QUICK


def apart(kernel: Kernel, capabilities: Capabilities) -> list[Kernel]:
    """The kernels of a kernel; one where it is no product, or best whole."""
    if kernel.ordered:
        return [kernel]
    copies, changed = with_copies(kernel)
    found = match(changed)
    if found is None or not pays(found):
        return [kernel]
    first = [collapse(copy) for copy in copies]
    formulas = walk(*(f for s in changed.stores for f in s.formulas), known=set(found.totals))
    if capabilities.type != "cpu" or not any(f.primitive in SLOW for f in formulas):
        return [*first, changed]
    index = tuple(axis.position for axis in changed.axes)
    shape = tuple(axis.extent for axis in changed.axes)
    sums = Buffer(TensorType(found.dtype, shape), "product")
    store = Store(sums, index, found.totals[0])
    alone = Kernel(kernel.name, changed.axes, (store,), kernel.lines)
    made: dict[Scalar, Scalar] = dict.fromkeys(found.totals, read(sums)(*index))
    return [*first, alone, collapse(_with(changed, made))]


def _with(kernel: Kernel, made: dict[Scalar, Scalar]) -> Kernel:
    """The kernel with other formulas for some."""
    for part in walk(*(f for store in kernel.stores for f in store.formulas), known=set(made)):
        operands = tuple([made[x] for x in part.operands])
        same = all(a is b for a, b in zip(operands, part.operands, strict=True))
        made[part] = part if same else Scalar(part.primitive, operands, part.value)
    stores = tuple(Store(s.buffer, s.index, made[s.value], s.ordered) for s in kernel.stores)
    return Kernel(kernel.name, kernel.axes, stores, kernel.lines)
