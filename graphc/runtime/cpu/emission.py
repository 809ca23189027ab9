"""Small words for writing LLVM IR: loops, address arithmetic, vectors.

Enters: an `IRBuilder`. Leaves: the instructions that it was asked for. All integers are i64, all
offsets are counted in bytes, and a loop is a phi of its counter, so that no pass is needed to
get values out of memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from graphc.runtime.cpu import ir

Value: TypeAlias = Any  # an llvmlite value; the library has no types
INTEGER = ir.IntType(64)
POINTER = ir.PointerType()
VOID = ir.VoidType()


def integer(value: int) -> Value:
    """A constant."""
    return ir.Constant(INTEGER, value)


def declare(
    module: ir.Module, name: str, result: Any, arguments: Sequence[tuple[str, Any]], public: bool
) -> tuple[Any, ir.IRBuilder, list[Value]]:
    """A function with named arguments, a builder in its entry, and the arguments."""
    function = ir.Function(module, ir.FunctionType(result, [t for _, t in arguments]), name)
    if not public:
        function.linkage = "internal"
    function.attributes.add("nounwind")
    function.attributes.add("noinline")
    for (label, _), value in zip(arguments, function.args, strict=True):
        value.name = label
    return function, ir.IRBuilder(function.append_basic_block("entry")), list(function.args)


def stack_array(builder: ir.IRBuilder, kind: Any, count: int) -> Value:
    """Room for some values on the stack; llvmlite would give it a typed pointer."""
    found = builder.alloca(ir.ArrayType(kind, count))
    found.type = POINTER
    return found


class _Callee:
    """A pointer as what a builder calls: it asks the callee for its type."""

    def __init__(self, pointer: Value, kind: ir.FunctionType) -> None:
        self.function_type, self.ref = kind, pointer.ref


def call_pointer(
    builder: ir.IRBuilder, pointer: Value, kind: ir.FunctionType, arguments: Sequence[Value]
) -> None:
    """Call what a pointer points to."""
    builder.call(_Callee(pointer, kind), arguments)


def seldom(function: Any) -> None:
    """Compile this function quickly rather than well."""
    function.attributes.add("optnone")


@contextmanager
def loop(builder: ir.IRBuilder, start: Value, stop: Value, step: int = 1) -> Iterator[Value]:
    """`for i in range(start, stop, step)`: gives the counter; leaves the builder behind it."""
    before = builder.block
    head, body = builder.append_basic_block("head"), builder.append_basic_block("body")
    after = builder.append_basic_block("after")
    builder.branch(head)
    builder.position_at_end(head)
    counter = builder.phi(INTEGER)
    counter.add_incoming(start, before)
    builder.cbranch(builder.icmp_signed("<", counter, stop), body, after)
    builder.position_at_end(body)
    yield counter
    counter.add_incoming(builder.add(counter, integer(step)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)


def minimum(builder: ir.IRBuilder, a: Value, b: Value) -> Value:
    """The smaller of two integers."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def maximum(builder: ir.IRBuilder, a: Value, b: Value) -> Value:
    """The larger of two integers."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def ceil_divide(builder: ir.IRBuilder, a: Value, b: Value) -> Value:
    """How many of size b hold a; both are not negative, b is not zero."""
    return builder.udiv(builder.add(a, builder.sub(b, integer(1))), b)


def product(builder: ir.IRBuilder, factors: Sequence[Value]) -> Value:
    """The product of integers; 1 of none."""
    result = integer(1)
    for factor in factors:
        result = builder.mul(result, factor)
    return result


def collapse(
    builder: ir.IRBuilder, extents: Sequence[Value], strides: Sequence[Value]
) -> tuple[Value, Value]:
    """Whether axes are as one, and its stride: that of the last axis with more than one place."""
    one, step = integer(1), strides[0]
    for extent, stride in zip(extents[1:], strides[1:], strict=True):
        step = builder.select(builder.icmp_signed("!=", extent, one), stride, step)
    even: Value = ir.Constant(ir.IntType(1), 1)
    reach = step
    for extent, stride in zip(reversed(extents), reversed(strides), strict=True):
        single = builder.icmp_signed("==", extent, one)
        same = builder.icmp_signed("==", stride, reach)
        even = builder.and_(even, builder.or_(single, same))
        reach = builder.mul(reach, extent)
    return even, step


def advance(builder: ir.IRBuilder, pointer: Value, offset: Value) -> Value:
    """A pointer some bytes further."""
    return builder.gep(pointer, [offset], source_etype=ir.IntType(8))


def fetch(builder: ir.IRBuilder, table: Value, index: Value) -> Value:
    """An entry of a table of i64."""
    return builder.load(builder.gep(table, [index], source_etype=INTEGER), typ=INTEGER, align=8)


def copy(builder: ir.IRBuilder, target: Value, source: Value, count: Value) -> None:
    """Copy bytes."""
    _library(builder, "memcpy", [POINTER, POINTER, INTEGER], [target, source, count])


def clear(builder: ir.IRBuilder, target: Value, count: Value) -> None:
    """Make bytes zero."""
    zero = ir.Constant(ir.IntType(32), 0)
    _library(builder, "memset", [POINTER, ir.IntType(32), INTEGER], [target, zero, count])


def _library(
    builder: ir.IRBuilder, name: str, kinds: Sequence[Any], values: Sequence[Value]
) -> None:
    """Call a function of the C library."""
    found = builder.module.globals.get(name)
    function = found or ir.Function(builder.module, ir.FunctionType(POINTER, kinds), name)
    builder.call(function, values)


def splat(builder: ir.IRBuilder, value: Value, lanes: int) -> Value:
    """A vector of one value."""
    one = builder.insert_element(
        ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined),
        value,
        ir.Constant(ir.IntType(32), 0),
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(one, one, zeros)


def first_lanes(builder: ir.IRBuilder, count: Value, lanes: int) -> Value:
    """A mask of the first `count` lanes; count may be beyond both ends."""
    narrow = ir.IntType(32)
    held = builder.trunc(
        maximum(builder, integer(0), minimum(builder, count, integer(lanes))), narrow
    )
    numbers = ir.Constant(ir.VectorType(narrow, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, splat(builder, held, lanes))


def _label(vector: Any) -> str:
    return f"v{vector.count}{'f32' if isinstance(vector.element, ir.FloatType) else 'f64'}"


def _intrinsic(builder: ir.IRBuilder, name: str, result: Any, arguments: list[Any]) -> Any:
    found = builder.module.globals.get(name)
    return found or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def masked_load(builder: ir.IRBuilder, pointer: Value, mask: Value, vector: Any) -> Value:
    """A vector whose lanes outside of the mask are zero and were not read."""
    load = _intrinsic(
        builder, f"llvm.masked.load.{_label(vector)}.p0", vector, [POINTER, mask.type, vector]
    )
    return builder.call(load, [pointer, mask, ir.Constant(vector, None)])


def masked_store(builder: ir.IRBuilder, value: Value, pointer: Value, mask: Value) -> None:
    """Write the lanes of the mask."""
    store = _intrinsic(
        builder, f"llvm.masked.store.{_label(value.type)}.p0", VOID,
        [value.type, POINTER, mask.type],
    )  # fmt: skip
    builder.call(store, [value, pointer, mask])


def prefetch(builder: ir.IRBuilder, pointer: Value, write: bool = False) -> None:
    """Ask for a line of memory that will be read or written soon; any address will do."""
    narrow = ir.IntType(32)
    function = _intrinsic(builder, "llvm.prefetch.p0", VOID, [POINTER, narrow, narrow, narrow])
    builder.call(function, [pointer, *(ir.Constant(narrow, n) for n in (int(write), 3, 1))])


def multiply_add(builder: ir.IRBuilder, a: Value, b: Value, c: Value) -> Value:
    """a * b + c, fused where the machine has that."""
    kind = a.type
    fused = _intrinsic(builder, f"llvm.fmuladd.{_label(kind)}", kind, [kind, kind, kind])
    return builder.call(fused, [a, b, c])


def keep_order(builder: ir.IRBuilder, value: Value) -> None:
    """What comes before stays before: LLVM's scheduler does not move code across a fake use.

    Left alone it gathers the loads of a loop at its top, until registers run out.
    """
    kind = ir.FunctionType(VOID, [], var_arg=True)
    found = builder.module.globals.get("llvm.fake.use")
    function = found or ir.Function(builder.module, kind, "llvm.fake.use")
    builder.call(function, [value])


def join(builder: ir.IRBuilder, parts: Sequence[Value]) -> Value:
    """Vectors one behind the other; as many as a power of two."""
    current = list(parts)
    while len(current) > 1:
        mask = ir.Constant(
            ir.VectorType(ir.IntType(32), 2 * current[0].type.count),
            list(range(2 * current[0].type.count)),
        )
        current = [
            builder.shuffle_vector(a, b, mask)
            for a, b in zip(current[::2], current[1::2], strict=True)
        ]
    return current[0]


def transpose(builder: ir.IRBuilder, rows: Sequence[Value]) -> list[Value]:
    """S vectors as the rows of matrices of S by S next to each other: their columns.

    S is a power of two. Each round interleaves row i with row i + S/2, inside of each matrix.
    """
    size, lanes, current = len(rows), rows[0].type.count, list(rows)
    halves = []
    for half in (0, size // 2):
        lane = [i - i % size + half + i % size // 2 + lanes * (i % 2) for i in range(lanes)]
        halves.append(ir.Constant(ir.VectorType(ir.IntType(32), lanes), lane))
    for _ in range(size.bit_length() - 1):
        pairs = zip(current[: size // 2], current[size // 2 :], strict=True)
        current = [builder.shuffle_vector(a, b, mask) for a, b in pairs for mask in halves]
    return current


def gather(builder: ir.IRBuilder, vectors: list[Value], size: int) -> list[Value]:
    """Of as many vectors as each has pieces of `size` lanes: their first pieces, the second, ..."""
    if len(vectors) == 1:
        return vectors
    lanes = vectors[0].type.count
    even = [i for i in range(2 * lanes) if i // size % 2 == 0]
    odd = [i for i in range(2 * lanes) if i // size % 2]
    halves = []
    for lane in (even, odd):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), lane)
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        halves.append(gather(builder, [builder.shuffle_vector(a, b, mask) for a, b in pairs], size))
    return [vector for pair in zip(*halves, strict=True) for vector in pair]
