"""Kernels as OpenCL C, one work-item a point: the general way, which takes every kernel.

Enters: a kernel. Leaves: `Routine`s. The points of a kernel's axes are work-items, the last axis
along the first dimension, so that neighbours read and write neighbours; reductions are loops of one
item. A kernel in order is one item for each point of the axes that its ordered stores mention,
which goes through the whole order. Where all that is not quick enough, others write the code.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.dims import Dimension, product
from graphc.kernel import ARGUMENTS, Axis, Kernel, Store
from graphc.runtime.faults import Needed
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.facts import Facts
from graphc.runtime.opencl.folds import reduced
from graphc.runtime.opencl.formula import Code, Scope
from graphc.runtime.opencl.routine import Routine

EXTREMA = ("max", "min", *ARGUMENTS)
MAP_GROUP = {"cpu": 256, "gpu": 256}
LOOP_GROUP = {"cpu": 16, "gpu": 64}
USUAL_GROUP = 64
DIMENSIONS = 3
NARROW = 64  # elements along the first dimension that are too few


def needs(kernel: Kernel) -> tuple[Needed, ...]:
    """The extents that an extremum without initial value reduces."""
    found = [
        Needed(
            tuple(axis.extent for axis in part.value[1]),
            f"{part.value[0]} of no elements has no value: give it one, or an initial value",
        )
        for part in kernel.formulas()
        if part.primitive == "reduce" and part.value[0] in EXTREMA and part.value[2] is None
    ]
    return tuple(dict.fromkeys(found))


def points(kernel: Kernel, capabilities: Capabilities, wanted: Dimension = 1) -> list[Routine]:
    """The routines of a kernel whose stores are all done at each point of its axes."""
    routine = _points(kernel, capabilities, wanted)
    if len(kernel.stores) > 1 and argument_bytes(routine) > capabilities.parameters:
        return [
            _points(Kernel(kernel.name, kernel.axes, (store,), kernel.lines), capabilities, wanted)
            for store in kernel.stores
        ]
    return [routine]


def argument_bytes(routine: Routine) -> int:
    """The bytes of a routine's arguments, at most."""
    return 16 * len(routine.buffers) + 8 * len(routine.sizes) + 16


def _points(kernel: Kernel, capabilities: Capabilities, wanted: Dimension) -> Routine:
    code = Code(capabilities)
    facts = Facts(formula for store in kernel.stores for formula in store.formulas)
    loops = any(part.primitive == "reduce" for part in kernel.formulas())
    grid = Grid(kernel.axes, _group(capabilities, loops), code)
    scope = Scope(code, facts, grid.point, reduced)
    for store in kernel.stores:
        scope.store(store)
    return grid.routine(kernel, kernel.stores, scope.lines, wanted)


def in_order(kernel: Kernel, capabilities: Capabilities) -> Routine:
    """The routine of the ordered stores of a kernel."""
    code, stores = Code(capabilities), kernel.ordered
    own = {store.buffer for store in stores}
    code.written = frozenset(own)
    facts = Facts((f for store in stores for f in store.formulas), own, kernel.order)
    mentioned = {axis for store in stores for axis in store.axes()}
    axes = [axis for axis in kernel.axes if axis in mentioned]
    grid = Grid(axes, _group(capabilities, True), code)
    scopes = [Scope(code, facts, grid.point, reduced)]
    order = list(facts.inside(*(f for store in stores for f in store.formulas)))
    for axis in kernel.order:
        scopes[-1].prepare(order)
        scopes.append(scopes[-1].open(axis))
    values = [scopes[-1].stored(store) for store in stores]
    for store, value in zip(stores, values, strict=True):
        scopes[-1].write(store, value)
    while len(scopes) > 1:
        inner = scopes.pop()
        scopes[-1].close(inner)
    return grid.routine(kernel, stores, scopes[0].lines, 1)


def _group(capabilities: Capabilities, loops: bool) -> int:
    """Items of a work-group: enough to hide what it costs, few enough that all cores have some."""
    table = LOOP_GROUP if loops else MAP_GROUP
    return min(table.get(capabilities.type, USUAL_GROUP), capabilities.work_group)


class Grid:
    """Work-items for the points of some axes: where each axis stands, as names."""

    def __init__(self, axes: Sequence[Axis], group: int, code: Code) -> None:
        self.code, self.lines = code, list[str]()
        self.point: dict[Axis, str] = {}
        rows = grid_rows(axes)
        self.items = tuple(product(axis.extent for axis in row) for row in rows)
        self.group = group_shape(self.items, group)
        conditions = []
        for number, row in enumerate(rows):
            name = f"g{number}"
            self.lines.append(f"  const long {name} = get_global_id({number});")
            lines, point = placed(code, name, row)
            self.lines += [f"  {line}" for line in lines]
            self.point |= point
            conditions.append(f"{name} < {code.size(self.items[number])}")
        self.condition = " && ".join(conditions)

    def routine(
        self, kernel: Kernel, stores: Sequence[Store], lines: Sequence[str], wanted: Dimension
    ) -> Routine:
        """The routine of what each item does."""
        text = [*self.lines, f"  if ({self.condition}) {{", *lines, "  }"]
        return whole_routine(self.code, kernel, text, self.items, self.group, wanted, stores)


def whole_routine(
    code: Code,
    kernel: Kernel,
    lines: Sequence[str],
    items: tuple[Dimension, ...],
    group: tuple[int, ...],
    wanted: Dimension,
    stores: Sequence[Store] | None = None,
) -> Routine:
    """The routine of a body; `stores` are those of the kernel that it does."""
    done = kernel.stores if stores is None else stores
    return Routine(
        kernel, code.text(lines), tuple(code.buffers), tuple(code.sizes),
        frozenset(store.buffer for store in done), items, group, tuple(code.helpers),
        tuple(code.faults), needs(kernel), wanted,
    )  # fmt: skip


def placed(code: Code, name: str, row: Sequence[Axis]) -> tuple[list[str], dict[Axis, str]]:
    """Where axes stand that share a dimension, whose place has a name: lines, and their names."""
    lines: list[str] = []
    point: dict[Axis, str] = {}
    for axis in reversed(row[1:]):
        at, rest, size = code.name("i"), code.name("q"), code.size(axis.extent)
        # The quotient by a size of 0 is of no use, but must not trap.
        by = size if isinstance(axis.extent, int) else f"max({size}, 1L)"
        lines.append(f"const long {rest} = {name} / {by}, {at} = {name} - {rest} * {by};")
        point[axis], name = at, rest
    if row:
        point[row[0]] = name
    return lines, point


def grid_rows(axes: Sequence[Axis]) -> list[list[Axis]]:
    """The axes along each dimension, the last ones first; short ones share one."""
    left, rows = list(axes), list[list[Axis]]()
    for _ in range(DIMENSIONS - 1):
        row: list[Axis] = []
        size: Dimension = 1
        while left and isinstance(size, int) and size < NARROW:
            row.insert(0, left.pop())
            size = product(axis.extent for axis in row)
        rows.append(row)
    return [row for row in (*rows, left) if row] or [[]]


def group_shape(items: Sequence[Dimension], group: int) -> tuple[int, ...]:
    """A work-group's items along each dimension; powers of two, along the first ones if it may."""
    shape = []
    for size in items:
        each = group
        if isinstance(size, int):
            while each > 1 and each // 2 >= max(size, 1):
                each //= 2
        shape.append(each)
        group //= each
    return tuple(shape)
