"""Values of LLVM IR: what an instruction can take as an operand."""

from __future__ import annotations

from typing import Any

from graphc.runtime.cpu.ir.types import Type, VectorType


class Value:
    """A value: its type, and how operands name it."""

    __slots__ = ("ref", "type")

    def __init__(self, type_: Any, ref: str) -> None:
        self.type, self.ref = type_, ref


class _Undefined:
    """What a constant holds that may be anything."""


Undefined = _Undefined()


class Constant(Value):
    """A number; of a vector or an array a sequence, or None for zeros."""

    __slots__ = ("constant",)

    def __init__(self, type_: Type, constant: Any) -> None:
        self.type, self.constant = type_, constant
        if constant is Undefined:
            self.ref = "undef"
        elif constant is None:
            self.ref = "zeroinitializer" if isinstance(type_, VectorType) else type_.constant(0)
        else:
            self.ref = type_.constant(constant)

    @classmethod
    def splat(cls, scalar: Constant, count: int) -> Constant:
        """A constant in all lanes of a vector."""
        made = cls.__new__(cls)
        made.type, made.constant = VectorType(scalar.type, count), [scalar] * count
        made.ref = f"splat ({scalar.type.text} {scalar.ref})"
        return made

    def bitcast(self, type_: Type) -> Value:
        """The same bits as another type."""
        return Value(type_, f"bitcast ({self.type.text} {self.ref} to {type_.text})")


class Phi(Value):
    """A value that depends on the block that came before."""

    __slots__ = ("_incoming",)

    def __init__(self, type_: Type, ref: str) -> None:
        super().__init__(type_, ref)
        self._incoming: list[str] = []

    def add_incoming(self, value: Value, block: Any) -> None:
        """What it is after a block."""
        self._incoming.append(f"[{value.ref}, %{block.name}]")

    def __str__(self) -> str:
        return f"  {self.ref} = phi {self.type.text} {', '.join(self._incoming)}"


class Alloca(Value):
    """Memory on the stack; `align` may be set until the function is written."""

    __slots__ = ("_kind", "align")

    def __init__(self, type_: Type, ref: str, kind: Type) -> None:
        super().__init__(type_, ref)
        self._kind = kind
        self.align: int | None = None

    def __str__(self) -> str:
        align = f", align {self.align}" if self.align else ""
        return f"  {self.ref} = alloca {self._kind.text}{align}"
