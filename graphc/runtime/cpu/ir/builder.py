"""The builder: a method for each instruction, which gives its value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from graphc.runtime.cpu.ir.module import POINTER, Block, Function, Module, Switch
from graphc.runtime.cpu.ir.types import (
    FunctionType,
    IntType,
    StructType,
    Type,
    VectorType,
    VoidType,
)
from graphc.runtime.cpu.ir.values import Alloca, Constant, Phi, Value

INT1 = IntType(1)
VOID = VoidType()
SIGNS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
SELDOM, OFTEN = 1, 99  # weights of a branch


def _binary(name: str) -> Callable[[IRBuilder, Any, Any], Any]:
    def emit(builder: IRBuilder, x: Value, y: Value) -> Value:
        return builder.made(x.type, f"{name} {x.type.text} {x.ref}, {y.ref}")

    return emit


def _comparison(name: str, prefix: str) -> Callable[[IRBuilder, str, Any, Any], Any]:
    same = "" if name == "icmp" else prefix
    signs = {sign: (same if sign in ("==", "!=") else prefix) + w for sign, w in SIGNS.items()}
    signs |= {"ord": "ord", "uno": "uno"}

    def emit(builder: IRBuilder, sign: str, x: Value, y: Value) -> Value:
        how = signs[sign]
        kind = VectorType(INT1, x.type.count) if isinstance(x.type, VectorType) else INT1
        return builder.made(kind, f"{name} {how} {x.type.text} {x.ref}, {y.ref}")

    return emit


def _conversion(name: str) -> Callable[[IRBuilder, Any, Any], Any]:
    def emit(builder: IRBuilder, x: Value, kind: Type) -> Value:
        if x.type is kind:
            return x
        return builder.made(kind, f"{name} {x.type.text} {x.ref} to {kind.text}")

    return emit


class IRBuilder:
    """Writes instructions at the end of a block, before how it goes on."""

    def __init__(self, block: Block | None = None, function: Function | None = None) -> None:
        if block is not None:
            self.position_at_end(block)

    # ------------------------------------------------------------------ places

    @property
    def module(self) -> Module:
        """The module that is written."""
        return self.function.module

    def position_at_end(self, block: Block) -> None:
        """Go on there."""
        self.block, self.function = block, block.function
        self._write = block.lines.append

    def append_basic_block(self, name: str = "") -> Block:
        """A new block of this function."""
        return self.function.append_basic_block(name)

    @contextmanager
    def goto_entry_block(self) -> Iterator[None]:
        """Write to the first block for a while."""
        before = self.block
        self.position_at_end(self.function.blocks[0])
        yield
        self.position_at_end(before)

    def made(self, kind: Type, text: str) -> Value:
        """The value of an instruction."""
        function = self.function
        function.used += 1
        ref = f"%.{function.used}"
        self._write(f"  {ref} = {text}")
        return Value(kind, ref)

    def _name(self) -> str:
        self.function.used += 1
        return f"%.{self.function.used}"

    # ------------------------------------------------------------------ arithmetic

    add, sub, mul = _binary("add"), _binary("sub"), _binary("mul")
    udiv, sdiv, urem, srem = map(_binary, ("udiv", "sdiv", "urem", "srem"))
    fadd, fsub, fmul, fdiv, frem = map(_binary, ("fadd", "fsub", "fmul", "fdiv", "frem"))
    and_, or_, xor = _binary("and"), _binary("or"), _binary("xor")
    shl, lshr, ashr = _binary("shl"), _binary("lshr"), _binary("ashr")
    icmp_signed, icmp_unsigned = _comparison("icmp", "s"), _comparison("icmp", "u")
    fcmp_ordered, fcmp_unordered = _comparison("fcmp", "o"), _comparison("fcmp", "u")
    trunc, zext, sext = _conversion("trunc"), _conversion("zext"), _conversion("sext")
    fptrunc, fpext, bitcast = _conversion("fptrunc"), _conversion("fpext"), _conversion("bitcast")
    sitofp, uitofp = _conversion("sitofp"), _conversion("uitofp")
    fptosi, fptoui = _conversion("fptosi"), _conversion("fptoui")
    inttoptr, ptrtoint = _conversion("inttoptr"), _conversion("ptrtoint")

    def fneg(self, x: Value) -> Value:
        """The other sign."""
        return self.made(x.type, f"fneg {x.type.text} {x.ref}")

    def neg(self, x: Value) -> Any:
        """0 - x."""
        return self.sub(Constant(x.type, None), x)

    def not_(self, x: Value) -> Any:
        """All bits the other way."""
        ones = Constant(x.type.element if isinstance(x.type, VectorType) else x.type, -1)
        return self.xor(x, Constant.splat(ones, x.type.count) if x.type is not ones.type else ones)

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        """`x` where the condition holds, else `y`."""
        return self.made(
            x.type,
            f"select {condition.type.text} {condition.ref}, "
            f"{x.type.text} {x.ref}, {y.type.text} {y.ref}",
        )

    def _with_overflow(self, name: str, x: Value, y: Value) -> Value:
        """The result and whether it is wrong; `extract_value` gives each."""
        kind = StructType((x.type, INT1))
        name = f"llvm.{name}.with.overflow.{x.type.text}"
        if name not in self.module.globals:
            Function(self.module, FunctionType(kind, (x.type, x.type)), name)
        return self.call(self.module.globals[name], (x, y))

    def sadd_with_overflow(self, x: Value, y: Value) -> Value:
        """The sum of signed integers, and whether there was no room for it."""
        return self._with_overflow("sadd", x, y)

    def smul_with_overflow(self, x: Value, y: Value) -> Value:
        """The product of signed integers, and whether there was no room for it."""
        return self._with_overflow("smul", x, y)

    def extract_value(self, value: Value, number: int) -> Value:
        """One of several values that are one."""
        text = f"extractvalue {value.type.text} {value.ref}, {number}"
        return self.made(value.type.elements[number], text)

    # ------------------------------------------------------------------ vectors

    def extract_element(self, vector: Value, lane: Value) -> Value:
        """One lane."""
        text = f"extractelement {vector.type.text} {vector.ref}, {lane.type.text} {lane.ref}"
        return self.made(vector.type.element, text)

    def insert_element(self, vector: Value, value: Value, lane: Value) -> Value:
        """The vector with another lane."""
        return self.made(
            vector.type,
            f"insertelement {vector.type.text} {vector.ref}, "
            f"{value.type.text} {value.ref}, {lane.type.text} {lane.ref}",
        )

    def shuffle_vector(self, x: Value, y: Value, order: Value) -> Value:
        """Lanes of two vectors in an order."""
        return self.made(
            VectorType(x.type.element, order.type.count),
            f"shufflevector {x.type.text} {x.ref}, {y.type.text} {y.ref}, "
            f"{order.type.text} {order.ref}",
        )

    # ------------------------------------------------------------------ memory

    def alloca(self, kind: Type) -> Any:
        """Room on the stack."""
        made = Alloca(POINTER, self._name(), kind)
        self._write(made)
        return made

    def load(self, pointer: Value, *, typ: Type, align: int | None = None) -> Value:
        """What lies at an address."""
        suffix = f", align {align}" if align else ""
        return self.made(typ, f"load {typ.text}, ptr {pointer.ref}{suffix}")

    def store(self, value: Value, pointer: Value, align: int | None = None) -> None:
        """Write to an address."""
        suffix = f", align {align}" if align else ""
        self._write(f"  store {value.type.text} {value.ref}, ptr {pointer.ref}{suffix}")

    def gep(self, pointer: Value, indices: Sequence[Value], *, source_etype: Type) -> Value:
        """The address of an element; of a vector of indices, set its type."""
        places = ", ".join([f"{i.type.text} {i.ref}" for i in indices])
        text = f"getelementptr {source_etype.text}, {pointer.type.text} {pointer.ref}, {places}"
        return self.made(POINTER, text)

    def atomic_rmw(self, name: str, pointer: Value, value: Value, ordering: str) -> Value:
        """Change what lies at an address, and give what lay there."""
        text = f"atomicrmw {name} ptr {pointer.ref}, {value.type.text} {value.ref} {ordering}"
        return self.made(value.type, text)

    # ------------------------------------------------------------------ blocks

    def phi(self, kind: Type) -> Any:
        """A value that depends on the block before; at the start of a block."""
        made = Phi(kind, self._name())
        self._write(made)
        return made

    def branch(self, block: Block) -> None:
        """Go on with a block."""
        self.block.end = f"  br label %{block.name}"

    def cbranch(self, condition: Value, yes: Block, no: Block, prof: str = "") -> None:
        """Go on with one of two blocks."""
        self.block.end = f"  br i1 {condition.ref}, label %{yes.name}, label %{no.name}{prof}"

    def switch(self, value: Value, default: Block) -> Switch:
        """Go on with one of many blocks."""
        self.block.end = made = Switch(value, default)
        return made

    def ret(self, value: Value) -> None:
        """Leave the function with a value."""
        self.block.end = f"  ret {value.type.text} {value.ref}"

    def ret_void(self) -> None:
        """Leave the function."""
        self.block.end = "  ret void"

    def call(self, function: Any, arguments: Sequence[Value]) -> Value:
        """Call a function, or what has a `function_type` and a `ref` like one."""
        kind = function.function_type
        result = kind.text if kind.var_arg else kind.result.text
        given = ", ".join([f"{x.type.text} {x.ref}" for x in arguments])
        text = f"call {result} {function.ref}({given})"
        if kind.result is not VOID:
            return self.made(kind.result, text)
        self._write(f"  {text}")
        return Value(VOID, "")

    @contextmanager
    def if_then(self, condition: Value, likely: bool | None = None) -> Iterator[Block]:
        """A block that is run where a condition holds; what follows stands behind it."""
        inside, after = self.append_basic_block("if"), self.append_basic_block("endif")
        prof = ""
        if likely is not None:
            prof = (
                self.module.weight(OFTEN, SELDOM) if likely else self.module.weight(SELDOM, OFTEN)
            )
        self.cbranch(condition, inside, after, prof)
        with self._branch(inside, after):
            yield after
        self.position_at_end(after)

    @contextmanager
    def if_else(
        self, condition: Value
    ) -> Iterator[tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
        """Two blocks, of which one is run; what follows stands behind both."""
        yes, no, after = (self.append_basic_block(name) for name in ("if", "else", "endif"))
        self.cbranch(condition, yes, no)
        yield self._branch(yes, after), self._branch(no, after)
        self.position_at_end(after)

    @contextmanager
    def _branch(self, block: Block, after: Block) -> Iterator[None]:
        """Write a block that goes on behind, unless it says otherwise."""
        self.position_at_end(block)
        yield
        if self.block.end is None:
            self.branch(after)
