"""The types of LLVM IR: equal ones are one object, which knows its text."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from graphc.runtime.once import once


class Type:
    """A type; `text` is how it is written."""

    text: str

    def __str__(self) -> str:
        return self.text

    def constant(self, value: Any) -> str:
        """How a constant of this type is written."""
        raise TypeError(f"no constants of {self.text}")


class _Interned(type):
    """A class whose calls with equal arguments give one object."""

    @once
    def __call__(cls, *arguments: Any) -> Any:
        return super().__call__(*arguments)


class IntType(Type, metaclass=_Interned):
    """An integer of so many bits."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.text = f"i{width}"

    def constant(self, value: Any) -> str:
        """In decimal digits; i1 as a word."""
        if self.width == 1:
            return "true" if value else "false"
        return str(int(value))


class _FloatingType(Type, metaclass=_Interned):
    """A floating number; its constants are written as the bits of a double."""

    form = "d"

    def constant(self, value: Any) -> str:
        """Rounded to the type."""
        held = struct.unpack(self.form, struct.pack(self.form, value))[0]
        return f"0x{struct.unpack('<Q', struct.pack('<d', held))[0]:016x}"


class HalfType(_FloatingType):
    """float16."""

    text, form = "half", "e"


class FloatType(_FloatingType):
    """float32."""

    text, form = "float", "f"


class DoubleType(_FloatingType):
    """float64."""

    text = "double"

    def constant(self, value: Any) -> str:
        """All of its bits."""
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016x}"


class PointerType(Type, metaclass=_Interned):
    """An address."""

    text = "ptr"


class VoidType(Type, metaclass=_Interned):
    """The result of what has none."""

    text = "void"


class VectorType(Type, metaclass=_Interned):
    """So many lanes of an element."""

    opening, closing = "<", ">"

    def __init__(self, element: Type, count: int) -> None:
        self.element, self.count = element, count
        self.text = f"{self.opening}{count} x {element.text}{self.closing}"

    def constant(self, value: Any) -> str:
        """Constants, or what makes them, of each element."""
        kind = self.element
        items = [f"{kind.text} {x.ref if hasattr(x, 'ref') else kind.constant(x)}" for x in value]
        return f"{self.opening}{', '.join(items)}{self.closing}"


class ArrayType(VectorType):
    """So many elements in memory."""

    opening, closing = "[", "]"


class StructType(Type):
    """Several values as one."""

    def __init__(self, elements: Sequence[Type]) -> None:
        self.elements = tuple(elements)
        self.text = f"{{ {', '.join([e.text for e in self.elements])} }}"


class FunctionType(Type):
    """What a function takes and gives."""

    def __init__(self, result: Type, arguments: Sequence[Type], var_arg: bool = False) -> None:
        self.result, self.arguments, self.var_arg = result, tuple(arguments), var_arg
        self.text = f"{result.text} ({', '.join([a.text for a in arguments] + ['...'] * var_arg)})"
