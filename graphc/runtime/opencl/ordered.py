"""Kernels in order, written for what a device has: scatter, running sums.

Enters: a kernel with ordered stores. Leaves: their routine. The points of the axes that the stores
mention touch nothing in common, and each goes through the whole order, so bits are those of every
other device. In the general way (`source.in_order`) a point is a work-item. Here are three others:

    _Columns    where a work-group is one thread: an item goes through the order with neighbouring
                points together, in vectors; an index is looked up once for all of them
    _Owners     elsewhere, where few points would leave a device idle: several items for a point,
                each of which does the updates of its own part of the places
    _Atomic     elsewhere, for sums of integers, whose order makes no difference: all at once
"""

from __future__ import annotations

from graphc.contractions import is_one
from graphc.dims import Dim, Dimension, floordiv, product
from graphc.dtypes import DType
from graphc.kernel import Axis, Kernel, Store
from graphc.runtime.formulas import Place, place_of
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.elements import register
from graphc.runtime.opencl.facts import Facts
from graphc.runtime.opencl.folds import reduced
from graphc.runtime.opencl.formula import Code, Scope
from graphc.runtime.opencl.routine import Routine
from graphc.runtime.opencl.source import Grid, in_order, placed, whole_routine
from graphc.scalar import Scalar

VECTORS = 4  # of neighbouring points that go through the order together
ITEMS = 16_384  # that keep a device busy
MOST_OWNERS = 1_024  # of the places of a point
USUAL_OWNERS = 32  # where a run decides how many points there are
GROUP = 64
ATOMIC = {"int32": "atomic_add", "uint32": "atomic_add", "int64": "atom_add", "uint64": "atom_add"}
WIDE = "cl_khr_int64_base_atomics"


def compile_ordered(kernel: Kernel, capabilities: Capabilities) -> Routine:
    """The routine of the ordered stores of a kernel."""
    order = _Order(kernel, capabilities)
    if capabilities.type == "cpu":
        axis = order.vector_axis()
        return in_order(kernel, capabilities) if axis is None else _columns(order, axis)
    if order.is_scatter():
        if order.adds():
            return _atomic(order)
        if (owners := order.owners()) > 1:
            return _owners(order, owners)
    return in_order(kernel, capabilities)


class _Order:
    """What is known of a kernel's ordered stores."""

    def __init__(self, kernel: Kernel, capabilities: Capabilities) -> None:
        self.kernel, self.stores, self.capabilities = kernel, kernel.ordered, capabilities
        self.code = Code(capabilities)
        own = {store.buffer for store in self.stores}
        self.code.written = frozenset(own)
        self.facts = Facts((f for s in self.stores for f in s.formulas), own, kernel.order)
        mentioned = {axis for store in self.stores for axis in store.axes()}
        self.axes = [axis for axis in kernel.axes if axis in mentioned]
        self.inside = list(self.facts.inside(*(f for s in self.stores for f in s.formulas)))
        self.own = [f for f in self.inside if f.primitive == "read" and f.value[0] in own]
        self.places = [place_of(s.index, s.buffer.type.shape or ()) for s in self.stores]

    def vector_axis(self) -> Axis | None:
        """The axis along which what is written, and read of it, lies next to each other."""
        places = [*self.places, *(self.facts.places[part] for part in self.own)]
        for axis in reversed(self.axes):
            if isinstance(axis.extent, int) and axis.extent < self.capabilities.vector_width:
                continue
            if all(is_one(p.offset.step(axis)) and not self._depends(p, axis) for p in places):
                return axis
        return None

    def _depends(self, place: Place, axis: Axis) -> bool:
        return any(axis in self.facts.free[formula] for formula, _ in place.terms)

    def is_scatter(self) -> bool:
        """Whether each store writes where data says, and reads of what it writes that place."""
        written = {store.buffer: store.index for store in self.stores}
        if any(written[part.value[0]] != part.operands for part in self.own):
            return False
        places = zip(self.stores, self.places, strict=True)
        return len(written) == len(self.stores) and all(
            place.terms
            and not set(place.offset.steps) & set(self.kernel.order)
            and not any(part.value[0] is not store.buffer for part in self._own_of(store))
            for store, place in places
        )

    def _own_of(self, store: Store) -> list[Scalar]:
        inside = set(self.facts.inside(*store.formulas))
        return [part for part in self.own if part in inside]

    def adds(self) -> bool:
        """Whether all that happens are sums of integers that the device adds at once."""
        return all(self.added(store) is not None for store in self.stores)

    def added(self, store: Store) -> Scalar | None:
        """What a store adds to an integer; None where it does anything else."""
        dtype, value = store.buffer.type.dtype, store.value
        if dtype.name not in ATOMIC or (dtype.bits > 32 and not self.capabilities.has(WIDE)):
            return None
        if value.primitive != "add" or self.facts.kinds[value] is not dtype:
            return None
        own = self._own_of(store)
        rest = [operand for operand in value.operands if operand not in own]
        if len(own) != 1 or len(rest) != 1 or own[0] in set(self.facts.inside(rest[0])):
            return None
        return rest[0] if own[0].value[1] is None else None

    def owners(self) -> int:
        """How many items share the places of a point, a power of two."""
        points = product(axis.extent for axis in self.axes)
        if isinstance(points, Dim):
            return USUAL_OWNERS
        wanted = min(MOST_OWNERS, ITEMS // max(1, points))
        return 1 << max(0, wanted.bit_length() - 1)

    def opened(self, scope: Scope) -> list[Scope]:
        """The scopes of the loops over the order, each left free of what does not change in it."""
        scopes = [scope]
        for axis in self.kernel.order:
            scopes[-1].prepare(self.inside)
            scopes.append(scopes[-1].open(axis))
        return scopes


def _close(scopes: list[Scope]) -> None:
    while len(scopes) > 1:
        inner = scopes.pop()
        scopes[-1].close(inner)


# ---------------------------------------------------------------------------- neighbours together


class _Lane(Scope):
    """A point among neighbours. Indices that all of them have were checked before."""

    shared: frozenset[Scalar] = frozenset()

    def check(self, index: Scalar, axis: int, size: Dimension, conditions: list[str]) -> str:
        """The name of whether an index is in range."""
        return "1" if index in self.shared else super().check(index, axis, size, conditions)


def _columns(order: _Order, last: Axis) -> Routine:
    code, capabilities = order.code, order.capabilities
    lanes = capabilities.vector_width
    strip: int = VECTORS * lanes
    if isinstance(last.extent, int) and len(order.axes) == 1:  # a share for each compute unit
        share = -(-last.extent // capabilities.compute_units)
        strip = min(strip, -(-share // lanes) * lanes)
    size, outer = code.size(last.extent), [axis for axis in order.axes if axis is not last]
    lines = [
        f"  const long across = ({size} + {strip - 1}) / {strip};",
        "  const long g = get_global_id(0), outer = g / across;",
        f"  const long first = (g - outer * across) * {strip};",
        f"  const int count = (int)min({strip}L, {size} - first);",
    ]
    more, point = placed(code, "outer", outer)
    scopes = order.opened(Scope(code, order.facts, point, reduced))
    scope = scopes[-1]
    scope.prepare(order.inside)
    holds, shared = _checked(order, scope, last)
    scope.line(f"if ({' && '.join(holds) or '1'}) {{")
    scope.lines.append("#pragma clang loop vectorize(assume_safety)")
    scope.line("for (int l = 0; l < count; l++) {")
    lane = _Lane(code, order.facts, {last: "column"}, reduced, scope)
    lane.shared = shared
    lane.line("const long column = first + l;")
    for store, value in [(s, lane.stored(s)) for s in order.stores]:
        lane.write(store, value)
    scope.close(lane)
    scope.line("}")
    _close(scopes)
    items = product(axis.extent for axis in outer) * floordiv(last.extent + (strip - 1), strip)
    text = [*lines, *(f"  {line}" for line in more), *scopes[0].lines]
    return whole_routine(code, order.kernel, text, (items,), (1,), 1, order.stores)


def _checked(order: _Order, scope: Scope, last: Axis) -> tuple[list[str], frozenset[Scalar]]:
    """Conditions of the indices that do not change along the last axis, and these indices."""
    found: dict[Scalar, str] = {}
    for store in order.stores:
        shape = store.buffer.type.shape or ()
        for axis, (index, size) in enumerate(zip(store.index, shape, strict=True)):
            if last not in order.facts.free[index] and scope.facts.is_doubtful(index, size):
                found[index] = scope.check(index, axis, size, [])
    return list(found.values()), frozenset(found)


# ---------------------------------------------------------------------------- places shared out


def _owners(order: _Order, owners: int) -> Routine:
    code, axis = order.code, Axis(owners)
    grid = Grid((axis, *order.axes), min(GROUP, order.capabilities.work_group), code)
    scopes = order.opened(Scope(code, order.facts, grid.point, reduced))
    for store, place in zip(order.stores, order.places, strict=True):
        scope = scopes[-1]
        terms = Place(type(place.offset)(0, {}), place.terms)
        scope.line(f"if ((({scope.offset(terms)}) & {owners - 1}L) == {grid.point[axis]}) {{")
        inner = scope.inner({})
        inner.store(store)
        scope.close(inner)
    _close(scopes)
    return grid.routine(order.kernel, order.stores, scopes[0].lines, 1)


# ---------------------------------------------------------------------------- all at once


def _atomic(order: _Order) -> Routine:
    code = order.code
    axes = (*order.axes, *order.kernel.order)
    grid = Grid(axes, min(GROUP, order.capabilities.work_group), code)
    scope = Scope(code, order.facts, grid.point, reduced)
    for store, place in zip(order.stores, order.places, strict=True):
        dtype, added = store.buffer.type.dtype, order.added(store)
        assert added is not None
        value = scope.variable(dtype, scope.typed(added, dtype))
        _add(scope, store, place, value, dtype)
    return grid.routine(order.kernel, order.stores, scope.lines, 1)


def _add(scope: Scope, store: Store, place: Place, value: str, dtype: DType) -> None:
    conditions = [
        scope.check(index, axis, size, [])
        for axis, (index, size) in enumerate(
            zip(store.index, store.buffer.type.shape or (), strict=True)
        )
        if scope.facts.is_doubtful(index, size)
    ]
    at = f"&{scope.code.buffer(store.buffer)}[{scope.offset(place)}]"
    text = f"{ATOMIC[dtype.name]}({at}, ({register(dtype)}){value});"
    scope.line(f"if ({' && '.join(conditions)}) {text}" if conditions else text)
