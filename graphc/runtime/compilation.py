"""From a fetch set to programs: one for each pattern of sizes that its builders asked about.

Enters: the graph of some fetches, and the arrays fed to its inputs. Leaves: a program, and the
values of all sizes. Most fetch sets have a single program for every batch size; what a program
takes for granted (a size that is 1, two that are equal) are its `guards`. A size that is an element
of a tensor is computed by a fetch set of its own, when a question or a program first needs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from graphc.build import apply, assuming, describe
from graphc.context import on_behalf
from graphc.dims import Dim, Dimension, Symbol, evaluate
from graphc.dtypes import Array
from graphc.errors import ShapeError
from graphc.graph import Graph, Op, Tensor
from graphc.ops.follow import elements, is_inner
from graphc.ops.measure import shape as shape_of
from graphc.ops.random import ENTROPY
from graphc.ops.source import PLACEHOLDER, Variable
from graphc.passes import optimise
from graphc.runtime.device import Device, Environment, Program
from graphc.runtime.feeds import bind_sizes, check_expressions, missing, missing_error
from graphc.runtime.watch import Watch
from graphc.types import Assumptions, TensorType

SHAPE: Op = shape_of.op  # type: ignore[attr-defined]  # a composition's builder has its op


@dataclass(slots=True)
class Compilation:
    """One program, what it holds for, and what making it cost."""

    program: Program
    ranks: tuple[int, ...]  # of what is fed
    guards: tuple[tuple[Dimension, Dimension, bool], ...]
    elements: tuple[Symbol, ...]  # sizes that are elements of tensors
    reason: str
    seconds: dict[str, float]
    nodes: int
    targets: tuple[Variable, ...]  # what its updates write; those that change nothing are gone
    entropic: bool  # whether it makes random numbers
    own: bool  # whether every root of a run is a new array that nothing else is or refers to
    fits: bool  # whether no size decides the shapes of what updates write

    def holds(self, sizes: Mapping[Symbol, int]) -> bool:
        """Whether every question has the answer that it had, asked in the same order."""
        for a, b, answer in self.guards:
            if (evaluate(a, sizes) == evaluate(b, sizes)) is not answer:
                return False
        return True


class Bound(NamedTuple):
    """What some arrays are run with."""

    compilation: Compilation
    sizes: Mapping[Symbol, int]
    by_shape: bool  # whether the arrays' shapes alone, not their values, have led here


class Sizes(dict[Symbol, int]):
    """The sizes of one run; one that is an element of a tensor is computed when first needed."""

    def __init__(self, known: Mapping[Symbol, int], element: Callable[[Symbol, Sizes], int]):
        super().__init__(known)
        self._element = element

    def __missing__(self, symbol: Symbol) -> int:
        if symbol.source is None and symbol.owner is None:
            raise KeyError(symbol)
        self[symbol] = self._element(symbol, self)
        return self[symbol]


@dataclass(slots=True)
class FetchSet:
    """The graph of some fetches and feeds, with the programs made for it so far."""

    graph: Graph
    device: Device
    check: str | None
    variables: list[Variable] = field(default_factory=list)
    compilations: list[Compilation] = field(default_factory=list)
    _types: dict[tuple[int, ...], list[TensorType]] = field(default_factory=dict)
    _readers: dict[tuple[int, ...], _Reader] = field(default_factory=dict)
    _fed: dict[Tensor, Tensor] = field(default_factory=dict)  # to the input that each stands for
    _values: dict[Tensor, FetchSet] = field(default_factory=dict)
    _shapes: dict[Tensor, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if absent := missing(self.graph):
            raise missing_error(self.graph, absent)
        self._fed = {tensor: tensor for tensor in self.graph.inputs}
        self.variables = [t for t in self.graph.tensors() if isinstance(t, Variable)]
        for symbol in elements(self.graph):
            read = self.value(self.measured(symbol)[0]).variables
            self.variables += [v for v in read if v not in self.variables]

    def _refined(self, arrays: Sequence[Array]) -> list[TensorType]:
        """The types of the inputs at these ranks, with a symbol for every open size."""
        ranks = tuple(array.ndim for array in arrays)
        if ranks not in self._types:
            types = []
            for tensor, rank in zip(self.graph.inputs, ranks, strict=True):
                declared = tensor.shape or (None,) * rank
                inner = tensor.node.op is not PLACEHOLDER
                types.append(TensorType(tensor.dtype, tuple(_open(d, inner) for d in declared)))
            self._types[ranks] = types
        return self._types[ranks]

    def bind(
        self,
        arrays: Sequence[Array],
        variables: Mapping[Any, Array],
        entropy: Array,
        outer: Mapping[Symbol, int] | None = None,
    ) -> Bound:
        """The program for these arrays (made now, if there is none) and what it runs with.

        `outer` are sizes that the graph may mention beside those of its own feeds.
        """
        ranks = tuple([array.ndim for array in arrays])
        if ranks not in self._readers:
            self._readers[ranks] = _Reader(self.graph.inputs, self._refined(arrays))
        bound = self._readers[ranks](arrays)
        computed = _Elements(self, arrays, variables, entropy)
        sizes = Sizes({**outer, **bound} if outer else bound, computed)
        for compilation in self.compilations:
            if compilation.ranks == ranks and compilation.holds(sizes):
                break
        else:
            compilation = self._compile(self._refined(arrays), sizes)
            self.compilations.append(compilation)
        for symbol in compilation.elements:
            sizes[symbol]  # so that none is computed in the midst of a run
        return Bound(compilation, sizes, not computed.any)

    def known(self, shapes: Sequence[tuple[int, ...]]) -> Bound | None:
        """What `bind` gives for arrays of these shapes, where shapes alone lead to a program that
        has been made; None where they do not, or where something is wrong with them."""
        ranks = tuple([len(shape) for shape in shapes])
        reader = self._readers.get(ranks)
        sizes = None if reader is None else reader.sizes(shapes)
        if sizes is None:
            return None
        for compilation in self.compilations:
            if compilation.elements:
                return None
            if compilation.ranks == ranks and compilation.holds(sizes):
                return Bound(compilation, sizes, True)
        return None

    def measured(self, symbol: Symbol) -> tuple[Tensor, int]:
        """The integer tensor that a size is an element of, and which."""
        if symbol.source is not None:
            tensor, place = symbol.source
            return tensor, place
        owner, axis = symbol.owner
        if owner not in self._shapes:
            with on_behalf(owner.node.where, owner.node.scope):
                self._shapes[owner] = apply(SHAPE, (owner,), {}, None)
        return self._shapes[owner], axis

    def value(self, tensor: Tensor) -> FetchSet:
        """The fetch set of a tensor that sizes are elements of."""
        if tensor not in self._values:
            read = self._read(tensor)
            inputs = tuple(t for t in self._fed if t in read)
            self._values[tensor] = FetchSet(Graph((tensor,), (), inputs), self.device, None)
        return self._values[tensor]

    def _read(self, tensor: Tensor) -> set[Tensor]:
        """What a tensor is made of, and the sizes in it."""
        read, waiting = set[Tensor](), [tensor]
        while waiting:
            graph = Graph((waiting.pop(),), (), tuple(self._fed))
            read.update(graph.tensors())
            measured = {self.measured(symbol)[0] for symbol in elements(graph)}
            waiting += [t for t in measured if t not in read]
            read |= measured
        return read

    def feeds_of(self, value: FetchSet, arrays: Sequence[Array]) -> list[Array]:
        """What to feed to a fetch set of `value`, out of this one's feeds."""
        fed = dict(zip(self.graph.inputs, arrays, strict=True))
        return [fed[self._fed[tensor]] for tensor in value.graph.inputs]

    def _compile(self, types: Sequence[TensorType], sizes: Sizes) -> Compilation:
        refined = dict(zip(self.graph.inputs, types, strict=True))
        assumptions = Assumptions(sizes, types=refined, fed=self._fed)
        watch = Watch()
        with assuming(assumptions):
            graph = optimise(self.graph, watch)
        start = time.perf_counter()
        program = self.device.compile(graph, self.check)
        watch.seconds["compile"] = time.perf_counter() - start
        guards = tuple((a, b, answer) for (a, b), answer in assumptions.asked.items())
        reason = "a new set of fetches and feeds"
        if self.compilations:
            reason = "sizes of a new pattern: " + ", ".join(
                f"{a} {'==' if answer else '!='} {b}" for a, b, answer in guards
            )
        watch.done(graph, program, reason, self.device.name)
        targets: tuple[Any, ...] = tuple(variable for variable, _ in graph.updates)
        distinct = len(set(graph.roots)) == len(graph.roots)
        ranks = tuple(len(t.shape or ()) for t in types)
        return Compilation(
            program,
            ranks,
            guards,
            tuple(dict.fromkeys((*elements(graph), *_looked_at(guards)))),
            reason,
            watch.seconds,
            len(graph.nodes),
            targets,
            any(node.op is ENTROPY for node in graph.nodes),
            distinct and getattr(program, "fresh", False),
            all(value.type.is_static for _, value in graph.updates),
        )


def _looked_at(guards: Sequence[tuple[Dimension, Dimension, bool]]) -> list[Symbol]:
    """The sizes in guards that are elements of tensors: no shape alone tells whether these hold."""
    sizes = [size for a, b, _ in guards for size in (a, b) if isinstance(size, Dim)]
    symbols = [symbol for size in sizes for symbol in size.symbols()]
    return [s for s in symbols if s.source is not None or s.owner is not None]


def _open(dimension: Dimension | None, inner: bool) -> Dimension:
    """A declared size; a fresh symbol where it is unknown, or an inner tensor's expression."""
    if dimension is None or (
        inner and isinstance(dimension, Dim) and dimension.as_symbol() is None
    ):
        return Dim.symbol()
    return dimension


class _Reader:
    """The sizes that fed arrays of certain ranks bring, and whether they agree with each other."""

    def __init__(self, tensors: Sequence[Tensor], types: Sequence[TensorType]) -> None:
        self._tensors, self._types = tensors, types
        places: dict[Symbol, tuple[int, int]] = {}
        # What must be equal: a size of a feed, and that of another, a number, or an expression.
        self._same: list[tuple[int, int, Symbol]] = []
        self._fixed: list[tuple[int, int, int]] = []
        self._rest = False
        for i, (tensor, type) in enumerate(zip(tensors, types, strict=True)):
            declared = tensor.shape or (None,) * len(type.shape or ())
            for axis, (size, refined) in enumerate(zip(declared, type.shape or (), strict=True)):
                symbol = refined.as_symbol() if isinstance(refined, Dim) else None
                if isinstance(size, int):
                    self._fixed.append((i, axis, size))
                elif symbol is None or (size is not None and size != refined):
                    self._rest = True
                if symbol is not None:
                    if symbol in places:
                        self._same.append((i, axis, symbol))
                    places.setdefault(symbol, (i, axis))
        self._places = [(symbol, i, axis) for symbol, (i, axis) in places.items()]

    def __call__(self, arrays: Sequence[Array]) -> dict[Symbol, int]:
        """The value of each symbol; contradictions are errors."""
        sizes = self.sizes([array.shape for array in arrays])
        if sizes is None:
            sizes = bind_sizes(self._tensors, self._types, arrays)
            check_expressions(self._tensors, arrays, sizes)
        return sizes

    def sizes(self, shapes: Sequence[tuple[int, ...]]) -> dict[Symbol, int] | None:
        """The same for shapes of these ranks; None where they differ, or more must be looked at."""
        if self._rest:
            return None
        for i, axis, size in self._fixed:
            if shapes[i][axis] != size:
                return None
        sizes = {symbol: shapes[i][axis] for symbol, i, axis in self._places}
        for i, axis, symbol in self._same:
            if shapes[i][axis] != sizes[symbol]:
                return None
        return sizes


class _Elements:
    """Computes the elements of tensors that are sizes in one run, each tensor once."""

    def __init__(
        self,
        owner: FetchSet,
        arrays: Sequence[Array],
        variables: Mapping[Any, Array],
        entropy: Array,
    ) -> None:
        self._owner = owner
        self._arrays = arrays
        self._rest = (variables, entropy)
        self._computed: dict[Tensor, Array] = {}

    @property
    def any(self) -> bool:
        """Whether a value of a tensor has been looked at."""
        return bool(self._computed)

    def __call__(self, symbol: Symbol, sizes: Sizes) -> int:
        tensor, place = self._owner.measured(symbol)
        if is_inner(tensor):
            raise KeyError(symbol)  # what a step computes; its type will tell
        if tensor not in self._computed:
            value = self._owner.value(tensor)
            arrays = self._owner.feeds_of(value, self._arrays)
            bound = value.bind(arrays, *self._rest, sizes)
            environment = Environment(bound.sizes, *self._rest)
            self._computed[tensor] = bound.compilation.program.run(arrays, environment)[0]
        array = self._computed[tensor]
        if symbol.source is not None and tensor.shape is None and array.ndim:
            raise ShapeError(
                f"run: a size must be a scalar, got {array.dtype}{list(array.shape)}: "
                f"{describe(tensor)}"
            )
        return int(array.reshape(-1)[place])
