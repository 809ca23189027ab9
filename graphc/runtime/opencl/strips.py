"""Maps with special functions, on devices that have vectors: one work-item takes a strip of them.

Enters: a kernel whose stores are all done at each point of its axes, without reductions. Leaves:
its `Routine`; None where one work-item a point does as well. What a strip of neighbours computes
are OpenCL's vectors, so that no compiler has to find out that it may make some. What has no vector
(integers, reads that jump) is computed in loops over the lanes, and kept in arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from graphc.dims import Dimension, floordiv, product
from graphc.dtypes import DType, bool_, float16, float64
from graphc.kernel import Axis, Kernel, Store
from graphc.runtime.formulas import Place, place_of
from graphc.runtime.math.functions import FUNCTIONS
from graphc.runtime.opencl import vectors
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.elements import array_of, register
from graphc.runtime.opencl.facts import Facts
from graphc.runtime.opencl.formula import Code, Scope
from graphc.runtime.opencl.lanes import Body, Lanes
from graphc.runtime.opencl.routine import Routine
from graphc.runtime.opencl.source import (
    argument_bytes,
    grid_rows,
    group_shape,
    placed,
    whole_routine,
)
from graphc.scalar import Scalar, operand_dtype

GROUP = 64
VECTORS = (2, 4, 8, 16)  # lanes of OpenCL's types
Wanted = tuple[Scalar, DType]  # a value of lanes, as a dtype


def match(kernel: Kernel, capabilities: Capabilities, wanted: Dimension) -> Routine | None:
    """The routine of a map with special functions."""
    if capabilities.type != "cpu" or capabilities.vector_width < VECTORS[0] or not kernel.axes:
        return None
    if any(part.primitive == "reduce" for part in kernel.formulas()):
        return None
    formulas = [f for store in kernel.stores for f in store.formulas]
    rows, facts = grid_rows(kernel.axes), Facts(formulas)
    strips = Strips(Code(capabilities), facts, capabilities, formulas, rows[0])
    if not strips.functions:
        return None
    found = _routine(kernel, strips, rows, wanted)
    return None if argument_bytes(found) > capabilities.parameters else found


class Strips:
    """What of some formulas is computed by vectors along a row of axes, and by how many lanes."""

    def __init__(
        self,
        code: Code,
        facts: Facts,
        capabilities: Capabilities,
        formulas: Sequence[Scalar],
        axes: Sequence[Axis],
    ) -> None:
        self.code, self.facts, self.axes, self.row = code, facts, axes, frozenset(axes)
        self.order = list(facts.inside(*formulas))
        self.vectors = self._vectors(formulas)
        dtypes = [self.dtype(part) for part in self.vectors]
        least = capabilities.lanes(64 if float64 in dtypes else 32)
        self.lanes = max((n for n in VECTORS if n <= least), default=VECTORS[0])

        self.whole = frozenset(self.vectors)
        self.functions = [part for part in self.vectors if part.primitive in FUNCTIONS]

    def _vectors(self, formulas: Iterable[Scalar]) -> list[Scalar]:
        """The formulas that are evaluated and have vectors, operands first."""
        seen: set[Scalar] = set()
        stack = list(formulas)
        while stack:
            part = stack.pop()
            if part not in seen and self.varies(part):
                seen.add(part)
                stack += self.needs(part)
        return [part for part in self.order if part in seen and self._is_vector(part)]

    def varies(self, part: Scalar) -> bool:
        """Whether lanes may have different values."""
        return bool(self.facts.free[part] & self.row)

    def needs(self, part: Scalar) -> Sequence[Scalar]:
        """What is evaluated for a formula."""
        return () if part.primitive == "read" and self._is_vector(part) else self.facts.needs(part)

    def dtype(self, part: Scalar) -> DType:
        """The dtype in which a formula is computed."""
        if part.primitive in ("read", "cast"):
            kind = self.facts.kinds[part]
            assert isinstance(kind, DType)
            return kind
        return operand_dtype(part.primitive, [self.facts.kinds[x] for x in part.operands])

    def _is_vector(self, part: Scalar) -> bool:
        if part.primitive == "read":
            dtype = part.value[0].type.dtype
            return dtype.is_float and part.value[1] is None and self.runs(self.facts.places[part])
        if not part.operands:
            return False
        dtype, operands = self.dtype(part), part.operands
        if part.primitive != "cast" and not vectors.knows(self.code, part, dtype):
            return False
        if part.primitive == "select":
            operands = operands[1:]
        kinds = [self.facts.kinds[x] for x in operands if self.varies(x)]
        if part.primitive == "cast":
            return all(isinstance(k, DType) and vectors.converts(k, dtype) for k in kinds)
        return all(
            isinstance(k, DType) and (k.kind in "iu" or vectors.converts(k, dtype)) for k in kinds
        )

    def runs(self, place: Place) -> bool:
        """Whether neighbours along the row are neighbours in memory."""
        if place.terms or len(self.row) != 1:
            return False
        step = place.offset.step(self.axes[0])
        return isinstance(step, int) and step == 1


def _routine(
    kernel: Kernel, strips: Strips, rows: Sequence[Sequence[Axis]], wanted: Dimension
) -> Routine:
    """The code and its work-items."""
    code, lanes = strips.code, strips.lanes
    size = product(axis.extent for axis in rows[0])
    count = floordiv(size + (lanes - 1), lanes)
    items = (count, *(product(axis.extent for axis in row) for row in rows[1:]))
    lines, point, conditions = [], dict[Axis, str](), list[str]()
    for number, row in enumerate(rows):
        lines.append(f"  const long g{number} = get_global_id({number});")
        conditions.append(f"g{number} < {code.size(items[number])}")
        if number:
            more, at = placed(code, f"g{number}", row)
            lines += [f"  {line}" for line in more]
            point |= at
    scope = Scope(code, strips.facts, point)
    scope.prepare(strips.order)
    scope.line(f"const long first = g0 * {lanes};")
    scope.line(f"const int left = (int)min({lanes}L, {code.size(size)} - first);")
    Strip(strips, scope).store(kernel.stores)
    text = [*lines, f"  if ({' && '.join(conditions)}) {{", *scope.lines, "  }"]
    return whole_routine(code, kernel, text, items, group_shape(items, GROUP), wanted)


class Strip:
    """One strip: lines in a scope where `first` is its first point, `left` how many it has.

    Other kernels than maps ask it for `values`, as vectors.
    """

    def __init__(self, plan: Strips, outer: Scope) -> None:
        self.plan, self.code, self.lanes = plan, plan.code, plan.lanes
        self.scope = outer
        self.body = Body(self.lanes, self.code.fused, self.code.name)
        self.known: dict[Scalar, Lanes] = {}
        self.spilled: dict[Scalar, str] = {}  # vectors that lanes read, as arrays
        self.arrays: dict[Wanted, Lanes] = {}  # what lanes have computed, as vectors
        self.loaded: dict[str, Lanes] = {}  # by their place in memory
        # Where vectors of memory begin.
        self.start = outer.inner({plan.axes[0]: "first"} if len(plan.axes) == 1 else {})

    def values(self, wanted: Sequence[Wanted]) -> list[Lanes]:
        """Values as vectors; lanes from `left` on have any."""
        self._compute()
        self._fill(item for item in wanted if self._in_lanes(*item))
        found = [self._operand(part, dtype) for part, dtype in wanted]
        self._flush()
        return found

    def store(self, stores: Sequence[Store]) -> None:
        """Evaluate and write."""
        whole = [store for store in stores if self._is_whole(store)]
        values = self.values([(store.value, store.buffer.type.dtype) for store in whole])
        for store, value in zip(whole, values, strict=True):
            self._store(store, value)
        rest = [store for store in stores if store not in whole]
        if rest:
            for lane in self.loops([formula for store in rest for formula in store.formulas]):
                for store in rest:
                    lane.store(store)

    def loops(self, formulas: Sequence[Scalar]) -> Iterator[Scope]:
        """Loops over the lanes (see `_loops`) in which some formulas are evaluated one by one."""
        self._compute()
        self._spill(formulas)
        yield from self._loops()

    def _compute(self) -> None:
        """All vectors, each as soon as what it needs is there."""
        left = [part for part in self.plan.vectors if part not in self.known]
        while left:
            self._fill(item for part in left for item in self._from_lanes(part))
            later: list[Scalar] = []
            for part in left:
                if self._is_ready(part):
                    self.known[part] = self._vector(part)
                    self._flush()
                else:
                    later.append(part)
            left = later

    def _flush(self) -> None:
        for line in self.body.lines:
            self.scope.line(line)
        self.body.lines.clear()

    # ------------------------------------------------------------------ vectors

    def _vector(self, part: Scalar) -> Lanes:
        plan = self.plan
        dtype = plan.dtype(part)
        if part.primitive == "read":
            return self._load(part, dtype)
        if part.primitive == "cast":
            return self._operand(part.operands[0], dtype)
        picks = part.primitive == "select"
        operands = [self._operand(x, dtype) for x in part.operands[picks:]]
        if picks:
            operands.insert(0, self._operand(part.operands[0], bool_))
        return vectors.computed(self.code, part, dtype, operands)

    def _operand(self, part: Scalar, dtype: DType) -> Lanes:
        if not self.plan.varies(part):
            return vectors.uniform(self.body, self.start.typed(part, dtype), dtype)
        if self._in_lanes(part, dtype):
            return self.arrays[part, dtype]
        kind = self.plan.facts.kinds[part]
        assert isinstance(kind, DType)
        return vectors.converted(self.known[part], kind, dtype)

    def _is_ready(self, part: Scalar) -> bool:
        lanes = self._from_lanes(part)
        own = [x for x in self.plan.needs(part) if x in self.plan.whole]
        return all(item in self.arrays for item in lanes) and all(x in self.known for x in own)

    def _load(self, part: Scalar, dtype: DType) -> Lanes:
        """Neighbours in memory; beyond the last one there may be nothing."""
        count, name, kind = self.lanes, self.code.name("a"), register(dtype)
        place = (
            f"{self.code.buffer(part.value[0])} + ({self._offset(self.plan.facts.places[part])})"
        )
        if place in self.loaded:
            return self.loaded[place]
        half = "_half" if dtype is float16 else ""
        one = f"vload_half(l, {place})" if half else f"({place})[l]"
        self.scope.line(f"{kind}{count} {name};")
        self.scope.line(f"if (left == {count}) {name} = vload{half}{count}(0, {place});")
        self.scope.line(f"else {{ {kind} t[{count}] = {{0}};")
        self.scope.line(f"  for (int l = 0; l < left; l++) t[l] = {one};")
        self.scope.line(f"  {name} = vload{count}(0, t); }}")
        self.loaded[place] = Lanes(self.body, name, vectors.bits(dtype))
        return self.loaded[place]

    def _offset(self, place: Place) -> str:
        return self.start.offset(place)

    # ------------------------------------------------------------------ lanes

    def _in_lanes(self, part: Scalar, dtype: DType) -> bool:
        """Whether a value that varies must come from a loop over the lanes."""
        kind = self.plan.facts.kinds[part]
        if not self.plan.varies(part):
            return False
        if part not in self.plan.whole or not isinstance(kind, DType):
            return True
        return not vectors.converts(kind, dtype)

    def _from_lanes(self, part: Scalar) -> list[Wanted]:
        """The operands of a vector that lanes compute."""
        if part.primitive == "read":
            return []
        dtype = self.plan.dtype(part)
        dtypes = [dtype] * len(part.operands)
        if part.primitive == "select":
            dtypes[0] = bool_
        pairs = zip(part.operands, dtypes, strict=True)
        return [(x, d) for x, d in pairs if self._in_lanes(x, d)]

    def _reached(self, formulas: Iterable[Scalar]) -> list[Scalar]:
        """The vectors that lanes read where they evaluate some formulas."""
        found: dict[Scalar, None] = {}
        seen: set[Scalar] = set()
        stack = list(formulas)
        while stack:
            part = stack.pop()
            if part in seen or not self.plan.varies(part):
                continue
            seen.add(part)
            if part in self.plan.whole:
                found[part] = None
            else:
                stack += self.plan.facts.needs(part)
        return list(found)

    def _fill(self, items: Iterable[Wanted]) -> None:
        """Compute in a loop what is wanted of lanes, as far as the vectors for it are there."""
        ready = [
            item
            for item in dict.fromkeys(items)
            if item not in self.arrays and all(x in self.known for x in self._reached(item[:1]))
        ]
        if not ready:
            return
        self._spill(part for part, _ in ready)
        names = [self.code.name("a") for _ in ready]
        for (_, dtype), name in zip(ready, names, strict=True):
            self.scope.line(array_of(register(dtype), name, self.lanes))
        for lane in self._loops():
            for (part, dtype), name in zip(ready, names, strict=True):
                value = lane.typed(part, dtype)
                lane.line(f"{name}[l] = {f'-({value})' if dtype is bool_ else value};")
        for (part, dtype), name in zip(ready, names, strict=True):
            kind = "truth" if dtype is bool_ else "float"
            loaded = Lanes(self.body, f"vload{self.lanes}(0, {name})", vectors.bits(dtype), kind)
            self.arrays[part, dtype] = loaded.made(loaded.value)
        self._flush()

    def _spill(self, formulas: Iterable[Scalar]) -> None:
        """Keep in arrays what lanes read of vectors."""
        for part in self._reached(formulas):
            if part in self.spilled:
                continue
            name, value = self.code.name("s"), self.known[part]
            kind = value.element(value.kind, value.bits)
            self.scope.line(array_of(kind, name, self.lanes))
            self.scope.line(f"vstore{self.lanes}({value.value}, 0, {name});")
            self.spilled[part] = f"({name}[l] != 0)" if value.kind == "truth" else f"{name}[l]"

    def _loops(self) -> Iterator[Scope]:
        """A loop over all lanes, which a compiler may make vectors of, and one over those left."""
        count = str(self.lanes)
        for condition, end in ((f"if (left == {count})", count), ("else", "left")):
            self.scope.line(f"{condition} {{")
            if end == count:
                hint = f"vectorize(enable) vectorize_width({count})"
                self.scope.lines.append(f"#pragma clang loop {hint}")
            self.scope.line(f"for (int l = 0; l < {end}; l++) {{")
            lines, point = placed(self.code, "at", self.plan.axes)
            lane = self.scope.inner(point)
            lane.line("const long at = first + l;")
            for line in lines:
                lane.line(line)
            for part, text in self.spilled.items():
                lane.know(part, text)
            yield lane
            self.scope.close(lane)
            self.scope.line("}")

    # ------------------------------------------------------------------ stores

    def _is_whole(self, store: Store) -> bool:
        """Whether a store writes neighbours in memory, of floats."""
        shape = store.buffer.type.shape
        assert shape is not None
        pairs = zip(store.index, shape, strict=True)
        if any(self.plan.facts.is_doubtful(index, size) for index, size in pairs):
            return False
        place = place_of(store.index, shape)
        return store.buffer.type.dtype.is_float and self.plan.runs(place)

    def _store(self, store: Store, value: Lanes) -> None:
        """Write neighbours; those beyond the last are not."""
        dtype, shape, count = store.buffer.type.dtype, store.buffer.type.shape, self.lanes
        assert shape is not None
        place = place_of(store.index, shape)
        to = f"{self.code.buffer(store.buffer)} + ({self._offset(place)})"
        is_half = dtype is float16
        one = f"vstore_half(t[l], l, {to})" if is_half else f"({to})[l] = t[l]"
        call = f"vstore{'_half' * is_half}{count}({value.value}, 0, {to})"
        self.scope.line(f"if (left == {count}) {call};")
        self.scope.line(
            f"else {{ {register(dtype)} t[{count}]; vstore{count}({value.value}, 0, t);"
        )
        self.scope.line(f"  for (int l = 0; l < left; l++) {one}; }}")
