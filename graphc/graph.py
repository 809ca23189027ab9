"""The graph: typed, pure, frozen. Knows no op; an op is a record that says what its nodes mean.

There is no default graph and no registration: a `Graph` is what its outputs reach. `make` builds
one node, after the op's type rule has accepted the operands; `rewrite` maps a graph to a new one,
sharing every node that did not change. Nothing here recurses, so depth is bounded by memory alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from graphc import lazy
from graphc.context import Scope, Where, caller, on_behalf, origin
from graphc.dims import Dim, Dimension, Shape, derived, evaluate
from graphc.dtypes import DType
from graphc.errors import GraphcError, ShapeError
from graphc.symbolic import Symbolic
from graphc.types import Assumptions, TensorType

if TYPE_CHECKING:
    from graphc.typing import Operators
else:
    Operators = object

networkx = lazy.Module("networkx")
Attrs: TypeAlias = dict[str, Any]
_serials = itertools.count()
ASSUMPTIONS: ContextVar[Assumptions | None] = ContextVar("graphc.assumptions", default=None)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Op:
    """One operation: everything that graphc knows about it, in one record.

    `dtype(check, *types, **attrs)` and `shape(check, *types, **attrs)` are its type rule; `shape`
    is asked only where every rank is known. `oracle(*arrays, **attrs)` is its meaning, in NumPy.
    `vjp(g, y, *xs, **attrs)` gives the cotangents of its inputs (None: none flows), where `y` is
    its own output; both are tuples where it has several outputs. `element` is the formula of one
    output element, `expand(*xs, **attrs)` its composition of simpler ops. `build` turns tensors
    and attributes into canonical nodes (broadcast, promoted, axes counted from the front); it is
    run again when more is known of the types. `cuts` says why no gradient passes.
    """

    name: str
    family: str
    params: tuple[str, ...]
    dtype: Callable[..., Any]
    shape: Callable[..., Any]
    oracle: Callable[..., Any]
    build: Callable[..., Any] | None = None
    vjp: Callable[..., Any] | None = None
    element: Callable[..., Any] | None = None
    expand: Callable[..., Any] | None = None
    domain: Any = None
    cuts: str = ""
    outputs: Callable[..., int] | int | None = None  # None: one tensor, not a tuple
    rankless: Callable[..., Any] | None = None  # (**attrs) -> the shape, where no rank is needed

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def infer(
        self, check: Check, types: Sequence[TensorType], attrs: Attrs
    ) -> TensorType | tuple[TensorType, ...]:
        """The type of the output (a tuple of them, where `outputs` is set)."""
        dtype = self.dtype(check, *types, **attrs)
        known = True
        for type in types:
            if type.shape is None:
                known = check.settled = False
        if self.outputs is None:
            if known:
                return TensorType(dtype, self.shape(check, *types, **attrs))
            return TensorType(dtype, None if self.rankless is None else self.rankless(**attrs))
        count = self.outputs if isinstance(self.outputs, int) else self.outputs(**attrs)
        dtypes = dtype if isinstance(dtype, tuple) else (dtype,) * count
        shapes = self.shape(check, *types, **attrs) if known else (None,) * count
        return tuple(TensorType(d, s) for d, s in zip(dtypes, shapes, strict=True))

    def replay(self, inputs: Sequence[Tensor], attrs: Attrs, name: str | None) -> Any:
        """Build the node again from these inputs."""
        if self.build is not None:
            return self.build(*inputs, name=name, **attrs)
        return make(self, inputs, attrs, name)


@dataclass(frozen=True, slots=True, eq=False, repr=False, weakref_slot=True)
class Node:
    """One application of an op. Frozen, compared by identity.

    `settled` is False where the types left a question open (an unknown rank, two sizes that may or
    may not be equal); `specialise` builds such a node again once the answer is known.
    """

    op: Op
    inputs: tuple[Tensor, ...]
    attrs: Attrs
    types: tuple[TensorType, ...]
    name: str | None
    scope: Scope | None
    where: Where
    settled: bool
    serial: int = field(default_factory=_serials.__next__)

    def __repr__(self) -> str:
        return f"<node {self.label} at {self.where}>"

    @property
    def label(self) -> str:
        """Its name in its scope, `encoder/layer/matmul`; the op's name where it has none."""
        name = self.name or self.op.name
        return name if self.scope is None else f"{self.scope.path}/{name}"

    def with_inputs(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The outputs of this node over other inputs of the same types."""
        node = Node(
            self.op, inputs, self.attrs, self.types, self.name, self.scope, self.where, self.settled
        )
        return outputs_of(node)


class Tensor(Symbolic, Operators):
    """One output of a node: a symbolic array. Hashed and compared by identity."""

    __slots__ = ("__dict__", "__weakref__", "index", "node", "type")

    def __init__(self, node: Node, index: int, type: TensorType) -> None:
        self.node = node
        self.index = index
        self.type = type

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.type.dtype

    @property
    def shape(self) -> Shape | None:
        """The dimensions, ints or symbols; None where the rank is unknown."""
        return self.type.shape

    @property
    def ndim(self) -> int | None:
        """The rank, or None where it is unknown."""
        return None if self.type.shape is None else len(self.type.shape)

    @property
    def name(self) -> str:
        """The label, with its scopes; made unique only when shown."""
        return self.node.label if self.index == 0 else f"{self.node.label}:{self.index}"

    def __repr__(self) -> str:
        return f"<{self.node.op.name} {self.name!r}: {self.type} at {self.node.where}>"


def outputs_of(node: Node) -> tuple[Tensor, ...]:
    """Fresh tensors for all outputs of a new node."""
    types = node.types
    if len(types) == 1:
        return (Tensor(node, 0, types[0]),)
    return tuple([Tensor(node, index, type) for index, type in enumerate(types)])


# ---------------------------------------------------------------------------- building


class Check:
    """The type rule's view of one application: it states rules, and fails with the operands."""

    __slots__ = ("attrs", "inputs", "op", "settled")

    def __init__(self, op: Op, inputs: Sequence[Tensor], attrs: Attrs) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.settled = True

    def fail(self, rule: str, error: type[GraphcError] = ShapeError) -> NoReturn:
        """Raise: the rule, the operands with their types, the user's lines."""
        raise error(failure(self.op, rule, self.inputs))

    def ask(self, a: Dimension, b: Dimension) -> bool | None:
        """Whether two sizes are equal; None (and not settled) where this cannot be known yet."""
        if a is b or a == b:
            return True
        if isinstance(a, int) and isinstance(b, int):
            return False
        if isinstance(a - b, int):
            return False
        assumptions = ASSUMPTIONS.get()
        answer = None if assumptions is None else assumptions.equal(a, b)
        if answer is None:
            self.settled = False
        return answer

    def equal(self, a: Dimension, b: Dimension, rule: str) -> Dimension:
        """The one size that `a` and `b` both are, or fail with the rule."""
        if self.ask(a, b) is False:
            self.fail(rule)
        return a if isinstance(a, int) else b if isinstance(b, int) else a

    def broadcast(self, shapes: Sequence[Shape], rule: str = "shapes must broadcast") -> Shape:
        """NumPy's broadcasting of the shapes to one."""
        first = shapes[0]
        for shape in shapes:
            if shape != first:
                break
        else:
            return first
        rank = max(map(len, shapes))
        padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
        result = []
        for dimensions in zip(*padded, strict=True):
            size: Dimension = 1
            for other in dimensions:
                size = self._broadcast(size, other, rule)
            result.append(size)
        return tuple(result)

    def _broadcast(self, a: Dimension, b: Dimension, rule: str) -> Dimension:
        if isinstance(a, int) and a == 1:
            return b
        if (isinstance(b, int) and b == 1) or a == b:
            return a
        same = self.ask(a, b)
        if same:
            return a if isinstance(a, int) else b
        for one, other in ((a, b), (b, a)):
            if isinstance(one, Dim) and same is False and self.ask(one, 1):
                return other
        if same is False:
            self.fail(rule)
        if isinstance(a, int) or isinstance(b, int):
            return a if isinstance(a, int) else b
        return derived("broadcast", a, b)

    def axis(self, axis: Any, rank: int) -> int:
        """An axis counted from the front, or fail."""
        if isinstance(axis, bool) or not hasattr(axis, "__index__"):
            self.fail(f"an axis must be an int, axis={axis!r}")
        number = int(axis.__index__())
        if not -rank <= number < rank:
            self.fail(f"axis {number} is out of range for rank {rank}")
        return number + rank if number < 0 else number

    def axes(self, axes: Any, rank: int) -> tuple[int, ...]:
        """Axes counted from the front and sorted; None is all of them."""
        if axes is None:
            return tuple(range(rank))
        listed = axes if isinstance(axes, (tuple, list)) else (axes,)
        counted = sorted(self.axis(axis, rank) for axis in listed)
        if len(set(counted)) != len(counted):
            self.fail(f"an axis must not be repeated, axis={axes!r}")
        return tuple(counted)


def describe(tensor: Tensor) -> str:
    """What a tensor is, for errors: `variable "w2" (mnist.py:14)`."""
    node = tensor.node
    kind = "tensor" if node.op.family == "source" and node.op.name == "constant" else node.op.name
    name = f' "{node.label}"' if node.name else ""
    return f"{kind}{name} ({node.where})"


def _listed(parts: Sequence[str]) -> str:
    if len(parts) > 6:
        parts = [*parts[:5], f"{len(parts) - 5} more"]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _bound(type: TensorType) -> str:
    """A type for errors: in a run, with the values of its sizes (`f32[batch=32,784]`)."""
    assumptions = ASSUMPTIONS.get()
    if assumptions is None or type.shape is None or type.is_static:
        return str(type)
    sizes = []
    for dimension in type.shape:
        try:
            value = evaluate(dimension, assumptions.sizes)
        except KeyError:
            sizes.append(str(dimension))
            continue
        text = str(dimension)
        sizes.append(str(value) if text == str(value) or "?" in text else f"{text}={value}")
    return f"{type.dtype.short}[{','.join(sizes)}]"


def failure(op: Op, rule: str, inputs: Sequence[Tensor], where: Where | None = None) -> str:
    """The text of an error about one application of an op."""
    if len(op.params) == 1 and len(inputs) > 1:
        names = [f"{op.params[0]}[{k}]" for k in range(len(inputs))]
    else:
        names = list(op.params[: len(inputs)])
        names += [
            f"{op.params[-1] if op.params else 'x'}[{k}]" for k in range(len(inputs) - len(names))
        ]
    text = f"{op.name}: {rule}"
    if inputs:
        text += ", got " + _listed(
            [f"{n}: {_bound(t.type)}" for n, t in zip(names, inputs, strict=True)]
        )
    notes = [
        f"{n} is {describe(t)}"
        for n, t in zip(names, inputs, strict=True)
        if t.node.op.name not in ("constant", "full")
    ][:4]
    notes.append(f"{op.name} was called at {where or origin()[0]}")
    return text + "\n  " + "; ".join(notes)


def make(
    op: Op,
    inputs: Sequence[Tensor],
    attrs: Attrs | None = None,
    name: str | None = None,
    settled: bool = True,
) -> Any:
    """One node, typed by its op's rule: its tensor, or a tuple where the op has several outputs."""
    attrs = {} if attrs is None else attrs
    inputs = tuple(inputs)
    check = Check(op, inputs, attrs)
    inferred = op.infer(check, [t.type for t in inputs], attrs)
    types = (inferred,) if isinstance(inferred, TensorType) else inferred
    where, scope = origin()
    node = Node(op, inputs, attrs, types, name, scope, where, settled and check.settled)
    if op.outputs is None:
        return Tensor(node, 0, types[0])
    return outputs_of(node)


# ---------------------------------------------------------------------------- graphs


@dataclass(frozen=True, eq=False)
class Graph:
    """What some outputs and updates reach, down to `inputs`: tensors that a run feeds.

    `updates` pairs variables with the values that a run will write to them.
    """

    outputs: tuple[Tensor, ...]
    updates: tuple[tuple[Tensor, Tensor], ...] = ()
    inputs: tuple[Tensor, ...] = ()

    @property
    def roots(self) -> tuple[Tensor, ...]:
        """Outputs, then the values of the updates."""
        return self.outputs + tuple(value for _, value in self.updates)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, each after the nodes that it reads."""
        return tuple(topological(self.roots, frozenset(self.inputs)))

    def with_roots(self, roots: Sequence[Tensor], inputs: Sequence[Tensor] | None = None) -> Graph:
        """The graph with other outputs and update values, in the order of `roots`."""
        count = len(self.outputs)
        updates = zip((v for v, _ in self.updates), roots[count:], strict=True)
        kept = self.inputs if inputs is None else tuple(inputs)
        return Graph(tuple(roots[:count]), tuple(updates), kept)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that is read or fetched, once."""
        read = itertools.chain.from_iterable(node.inputs for node in self.nodes)
        yield from dict.fromkeys(itertools.chain(read, self.roots))

    def to_networkx(self) -> Any:
        """Nodes as vertices, tensors as edges (with `tensor`, and `operand`, its place)."""
        graph = networkx.MultiDiGraph()
        graph.add_nodes_from(self.nodes)
        members = set(self.nodes)
        for node in self.nodes:
            for operand, tensor in enumerate(node.inputs):
                if tensor.node in members:
                    graph.add_edge(tensor.node, node, tensor=tensor, operand=operand)
        return graph


def topological(
    roots: Iterable[Tensor], stops: frozenset[Tensor] | set[Tensor] = frozenset()
) -> list[Node]:
    """The nodes that `roots` reach without passing through `stops`, inputs first."""
    order: list[Node] = []
    done: set[Node] = set()
    opened: set[Node] = set()
    stack = [t.node for t in roots if t not in stops]
    stack.reverse()
    while stack:
        node = stack[-1]
        if node in done:
            stack.pop()
            continue
        if node in opened:
            done.add(node)
            order.append(node)
            stack.pop()
            continue
        opened.add(node)
        for tensor in reversed(node.inputs):
            if tensor.node not in done and tensor not in stops:
                stack.append(tensor.node)
    return order


Rule: TypeAlias = Callable[[Node], "Tensor | Sequence[Tensor] | None"]


class Rewriter:
    """The state of one rewrite: which outputs replace those of a node that changed."""

    def __init__(self, replaced: Mapping[Tensor, Tensor] | None = None) -> None:
        self._tensors = dict(replaced or {})
        self._nodes: dict[Node, Sequence[Tensor]] = {}

    def resolve(self, tensor: Tensor) -> Tensor:
        """What stands for `tensor` now."""
        outputs = self._nodes.get(tensor.node)
        current = tensor if outputs is None else outputs[tensor.index]
        return self._tensors.get(tensor, current) if self._tensors else current

    def visit(self, node: Node) -> Node:
        """The node over its inputs' replacements; itself where none changed."""
        nodes, tensors = self._nodes, self._tensors
        for tensor in node.inputs:
            if tensor.node in nodes or tensor in tensors:
                outputs = node.with_inputs(tuple(map(self.resolve, node.inputs)))
                nodes[node] = outputs
                return outputs[0].node if outputs else node
        return node

    def replace(self, node: Node, by: Tensor | Sequence[Tensor]) -> None:
        """From here on, `by` stands for the outputs of `node`."""
        self._nodes[node] = (by,) if isinstance(by, Tensor) else by


def rewrite(graph: Graph, rule: Rule, replaced: Mapping[Tensor, Tensor] | None = None) -> Graph:
    """Map a graph node by node, inputs first.

    `rule` sees a node over already rewritten inputs and returns what replaces its outputs, or None
    to keep it. What it builds takes the line and the scope of the node that it replaces.
    """
    rewriter = Rewriter(replaced)
    with on_behalf(caller(), None) as source:
        for node in graph.nodes:
            current = rewriter.visit(node)
            source.where, source.scope = node.where, node.scope
            new = rule(current)
            if new is not None:
                rewriter.replace(node, new)
    return graph.with_roots([rewriter.resolve(t) for t in graph.roots])


@contextmanager
def assuming(assumptions: Assumptions | None) -> Iterator[None]:
    """Builders run inside may ask about sizes."""
    token = ASSUMPTIONS.set(assumptions)
    try:
        yield
    finally:
        ASSUMPTIONS.reset(token)


def frozen_array(value: Any, dtype: DType | None = None) -> np.ndarray[Any, Any]:
    """A read-only copy of an array, for attributes."""
    array = np.array(value, dtype=None if dtype is None else dtype.numpy)
    array.flags.writeable = False
    return array
