"""Modules of LLVM IR, and what stands in them: functions of blocks, and global variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphc.runtime.cpu.ir.types import FunctionType, PointerType, Type
from graphc.runtime.cpu.ir.values import Constant, Value

POINTER = PointerType()


class Module:
    """The functions and variables of one unit, by name."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.globals: dict[str, Any] = {}
        self.metadata: dict[str, int] = {}  # by number

    def weight(self, taken: int, other: int) -> str:
        """What is put behind a branch that is taken more or less often."""
        number = self._note(f'!{{!"branch_weights", i32 {taken}, i32 {other}}}')
        return f", !prof !{number}"

    def unroll(self, count: int) -> str:
        """What is put behind the branch of a loop of which so many turns are one."""
        number = self._note(f'!{{!"llvm.loop.unroll.count", i32 {count}}}')
        own = len(self.metadata)  # a loop's metadata name themselves first
        self._note(f"distinct !{{!{own}, !{number}}}")
        return f", !llvm.loop !{own}"

    def _note(self, text: str) -> int:
        return self.metadata.setdefault(text, len(self.metadata))

    def _lines(self) -> Iterator[str]:
        yield f"; {self.name}"
        yield from map(str, self.globals.values())
        for text, number in self.metadata.items():
            yield f"!{number} = {text}"

    def __str__(self) -> str:
        return "\n".join(self._lines()) + "\n"


class GlobalVariable(Value):
    """A variable, or a table."""

    __slots__ = ("global_constant", "initializer", "kind", "linkage")

    def __init__(self, module: Module, kind: Type, name: str) -> None:
        super().__init__(POINTER, f"@{name}")
        self.kind = kind
        self.linkage = ""
        self.global_constant = False
        self.initializer: Constant | None = None
        module.globals[name] = self

    def __str__(self) -> str:
        linkage = self.linkage or ("external" if self.initializer is None else "")
        word = "constant" if self.global_constant else "global"
        value = f" {self.initializer.ref}" if self.initializer is not None else ""
        return f"{self.ref} = {linkage} {word} {self.kind.text}{value}"


class Argument(Value):
    """What a function is called with."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """May be set before the argument is used."""
        return self.ref[1:]

    @name.setter
    def name(self, name: str) -> None:
        self.ref = f"%{name}"


class Block:
    """Instructions in a row, and how it goes on: `end`."""

    __slots__ = ("end", "function", "lines", "name")

    def __init__(self, function: Function, name: str) -> None:
        self.function, self.name = function, name
        self.lines: list[Any] = []  # text, or what has text once all is known
        self.end: Any = None

    def __str__(self) -> str:
        end = "  unreachable" if self.end is None else str(self.end)
        return "\n".join([f"{self.name}:", *map(str, self.lines), end])


class Switch:
    """The end of a block that goes on with one of many."""

    def __init__(self, value: Value, default: Block) -> None:
        self._start = f"  switch {value.type.text} {value.ref}, label %{default.name}"
        self._cases: list[str] = []

    def add_case(self, value: Constant, block: Block) -> None:
        """Where to go on for a value."""
        self._cases.append(f"{value.type.text} {value.ref}, label %{block.name}")

    def __str__(self) -> str:
        return f"{self._start} [ {' '.join(self._cases)} ]"


class Function(Value):
    """A function: declared, or defined by blocks."""

    __slots__ = (
        "args",
        "attributes",
        "blocks",
        "function_type",
        "linkage",
        "module",
        "name",
        "used",
    )

    def __init__(self, module: Module, function_type: FunctionType, name: str) -> None:
        super().__init__(POINTER, f"@{name}")
        self.module, self.function_type, self.name = module, function_type, name
        self.args = [Argument(t, f"%a{i}") for i, t in enumerate(function_type.arguments)]
        self.attributes: set[str] = set()
        self.linkage = ""
        self.blocks: list[Block] = []
        self.used = 0  # numbers for instructions and blocks
        module.globals[name] = self

    def append_basic_block(self, name: str = "") -> Block:
        """A new last block."""
        self.used += 1
        block = Block(self, f"{name}.{self.used}")
        self.blocks.append(block)
        return block

    def __str__(self) -> str:
        result = self.function_type.result.text
        attributes = " ".join(sorted(self.attributes))
        if not self.blocks:
            kinds = [a.type.text for a in self.args] + ["..."] * self.function_type.var_arg
            return f"declare {result} {self.ref}({', '.join(kinds)}) {attributes}"
        labels = ", ".join([f"{a.type.text} {a.ref}" for a in self.args])
        body = "\n".join(map(str, self.blocks))
        return f"define {self.linkage} {result} {self.ref}({labels}) {attributes} {{\n{body}\n}}"
