"""The text form of kernels: deterministic, so that errors, dumps and tests can hold it.

    kernel matmul   # mnist.py:12
      read %a: f32[m,k]
      read %b: f32[k,n]
      for i0 < m, i1 < n
      %0[i0, i1]: f32[m,n] = sum(r0 < k: %a[i0, r0] * %b[r0, i1])

Axes of the nest are i0, i1 ..., those of reductions r0, r1 ... A formula that is used twice, or is
long, has a line of its own and a name, t0, t1 ... Where axes are walked in order, what is stored
before them is marked `first`. `%x[i, j; 0]` is 0 beyond the array; a kernel that was made from the
user's lines names them first.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from graphc.dims import Dim, dimension_text
from graphc.dtypes import DType
from graphc.kernel import Axis, Buffer, Kernel
from graphc.scalar import Scalar
from graphc.show import Naming

INFIX = {
    "bit_or": ("|", 1), "bit_xor": ("^", 2), "bit_and": ("&", 3), "less": ("<", 4),
    "less_equal": ("<=", 4), "equal": ("==", 4), "shift_left": ("<<", 5), "shift_right": (">>", 5),
    "add": ("+", 6), "subtract": ("-", 6), "multiply": ("*", 7), "divide": ("/", 7),
    "floor_divide": ("//", 7), "remainder": ("%", 7),
}  # fmt: skip
ATOM, LEAVES = 9, ("number", "position", "extent")
WIDE = 88  # characters of a formula that stands on a line of its own


class _Text:
    """The names and lines of one listing."""

    def __init__(self, kernel: Kernel, naming: Naming) -> None:
        self.naming = naming
        self.axes = {axis: f"i{k}" for k, axis in enumerate((*kernel.axes, *kernel.order))}
        self.inner = 0
        uses = Counter(part for f in kernel.formulas() for part in f.operands)
        uses.update(f for store in kernel.stores for f in store.formulas)
        self.shared = {f for f, n in uses.items() if n > 1 and f.primitive not in LEAVES}
        self.last = {store.value for store in kernel.stores}
        self.texts: dict[Scalar, tuple[str, int]] = {}  # and how tightly each binds
        self.lines: list[str] = []

    def axis(self, axis: Axis) -> str:
        """The name of a loop variable."""
        if axis not in self.axes:
            self.axes[axis] = f"r{self.inner}"
            self.inner += 1
        return self.axes[axis]

    def bounds(self, axes: tuple[Axis, ...]) -> str:
        """Loop variables with their extents."""
        return ", ".join(f"{self.axis(a)} < {self.naming.value(a.extent)}" for a in axes)

    def typed(self, buffer: Buffer) -> str:
        return self.naming.type(buffer.type)

    def add(self, formula: Scalar) -> None:
        """Write a formula, on a line of its own if several read it, or if it is long."""
        text = self.formula(formula)
        long = len(text[0]) > WIDE and formula.primitive != "read" and formula not in self.last
        if formula in self.shared or long:
            name = f"t{len(self.lines)}"
            self.lines.append(f"  {name} = {text[0]}")
            text = name, ATOM
        self.texts[formula] = text

    def formula(self, formula: Scalar) -> tuple[str, int]:
        """A formula over the texts of its operands."""
        parts = [self.texts[x] for x in formula.operands]
        found = self.leaf(formula.primitive, formula.value, [text for text, _ in parts])
        if found is not None:
            return found
        infix = INFIX.get(formula.primitive)
        if infix is None:
            return f"{formula.primitive}({', '.join(text for text, _ in parts)})", ATOM
        sign, level = infix
        (left, a), (right, b) = parts
        return f"{_bracketed(left, a < level)} {sign} {_bracketed(right, b <= level)}", level

    def extent(self, size: Dim) -> str:
        """A size, as tight as an atom."""
        text = dimension_text(size, self.naming.symbol)
        factors = [(len(monomial), coefficient) for monomial, coefficient in size.terms]
        return text if factors == [(1, 1)] else f"({text})"

    def leaf(self, kind: str, value: Any, parts: list[str]) -> tuple[str, int] | None:
        """The kinds that are no primitive."""
        match kind:
            case "number":
                return repr(value), ATOM
            case "position":
                return self.axis(value), ATOM
            case "extent":
                return self.extent(value), ATOM
            case "read":
                around = "" if value[1] is None else f"; {value[1]!r}"
                return f"%{value[0].name}[{', '.join(parts)}{around}]", ATOM
            case "cast":
                assert isinstance(value, DType)
                return f"{value.short}({parts[0]})", ATOM
            case "reduce":
                initial = "" if value[2] is None else f"; {value[2]!r}"
                bounds = self.bounds(value[1])
                return f"{value[0]}({bounds + ': ' if bounds else ''}{parts[0]}{initial})", ATOM
        return None


def _bracketed(text: str, yes: bool) -> str:
    return f"({text})" if yes else text


def lines_text(kernel: Kernel) -> str:
    """The user's lines that a kernel was made from, those of a file in their order."""
    files = {where.file: number for number, where in reversed(list(enumerate(kernel.lines)))}
    ordered = sorted(kernel.lines, key=lambda where: (files[where.file], where.line))
    return ", ".join(dict.fromkeys(map(str, ordered)))


def show_kernel(kernel: Kernel, naming: Naming | None = None) -> str:
    """The listing of a kernel: what it reads, its axes, and what is stored at each point."""
    text = _Text(kernel, naming or Naming())
    where = lines_text(kernel)
    head = [f"kernel {kernel.name}" + (f"   # {where}" if where else "")]
    head += [f"  read %{buffer.name}: {text.typed(buffer)}" for buffer in kernel.reads()]
    if kernel.axes:
        head.append(f"  for {text.bounds(kernel.axes)}")
    if kernel.order:
        head.append(f"  in order {text.bounds(kernel.order)}")
    for formula in kernel.formulas():
        text.add(formula)
    stores = []
    for store in kernel.stores:
        place = ", ".join(text.texts[i][0] for i in store.index)
        value = text.texts[store.value][0]
        mark = "first " if kernel.ordered and not store.ordered else ""
        type = text.typed(store.buffer)
        stores.append(f"  {mark}%{store.buffer.name}[{place}]: {type} = {value}")
    return "\n".join([*head, *text.lines, *stores]) + "\n"
