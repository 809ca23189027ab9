"""The launch that ends a run which keeps variables: what updates have written goes to its place.

Enters: a record, the address of the buffer table and then three words for each update: the slot of
the variable, that of its new value, and how many lines of 64 bytes they have. Leaves: new values
where the next run reads them. Nothing is copied where an earlier launch has found a fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from graphc.dims import product
from graphc.graph import Node
from graphc.kernel import Buffer
from graphc.runtime.cpu.jit import Library, compile_module
from graphc.runtime.cpu.target import host
from graphc.runtime.memory import ALIGN, shape_of
from graphc.runtime.once import once


class Piece(Protocol):
    """Memory of a variable or of a result, as a recipe lists it."""

    @property
    def buffer(self) -> Buffer:
        """What lies there."""

    @property
    def places(self) -> tuple[int, ...]:
        """Words that hold its address."""

    @property
    def bytes(self) -> int:
        """The number of the dimension that says how many."""

    @property
    def fixed(self) -> bool:
        """Whether no run decides its sizes."""

    @property
    def dtype(self) -> Any:
        """NumPy's."""


def landings(
    pieces: Sequence[Piece],
    made: Sequence[int | None],
    targets: Sequence[Node],
    read: Mapping[Node, int],
) -> list[tuple[int, int]]:
    """The numbers of what updates write, each with that of the variable that it is for.

    `made` are values for `targets`; `read` says where a variable is read. Empty where one is not,
    or where sizes decide what is written.
    """
    found = [(m, read.get(target)) for m, target in zip(made, targets, strict=True)]
    pairs = [(m, r) for m, r in found if m is not None and r is not None]
    whole = len(pairs) == len(found) and all(_alike(pieces[m], pieces[r]) for m, r in pairs)
    return pairs if whole else []


def _alike(a: Piece, b: Piece) -> bool:
    """Whether two pieces always have the same bytes of the same type."""
    return a.fixed and b.fixed and (a.bytes, a.dtype) == (b.bytes, b.dtype)


def record_words(
    pieces: Sequence[Piece], pairs: Sequence[tuple[int, int]], table: int
) -> list[int]:
    """The words of a record behind its first; `table` is the first word of the buffer table."""
    words: list[int] = []
    for made, read in pairs:
        piece = pieces[read]
        size = product(shape_of(piece.buffer)) * piece.buffer.type.dtype.itemsize
        assert isinstance(size, int), "what lands is of fixed sizes"
        words += [p.places[0] - table for p in (piece, pieces[made])]
        words.append(-(-size // ALIGN))
    return words


TEXT = """
define void @graphc_land(ptr %record, i64 %begin, i64 %end) {
entry:
  %table = load ptr, ptr %record
  br label %head
head:
  %number = phi i64 [%begin, %entry], [%following, %next]
  %more = icmp slt i64 %number, %end
  br i1 %more, label %update, label %done
update:
  %before = mul i64 %number, 3
  %first = add i64 %before, 1
  %to_at = getelementptr i64, ptr %record, i64 %first
  %from_at = getelementptr i64, ptr %to_at, i64 1
  %lines_at = getelementptr i64, ptr %to_at, i64 2
  %to_slot = load i64, ptr %to_at
  %from_slot = load i64, ptr %from_at
  %lines = load i64, ptr %lines_at
  %to_place = getelementptr ptr, ptr %table, i64 %to_slot
  %from_place = getelementptr ptr, ptr %table, i64 %from_slot
  %to = load ptr, ptr %to_place
  %from = load ptr, ptr %from_place
  br label %rest
rest:
  %line = phi i64 [0, %update], [%after, %copy]
  %left = icmp slt i64 %line, %lines
  br i1 %left, label %copy, label %next
copy:
  %source = getelementptr <8 x i64>, ptr %from, i64 %line
  %target = getelementptr <8 x i64>, ptr %to, i64 %line
  %value = load <8 x i64>, ptr %source, align 64
  store <8 x i64> %value, ptr %target, align 64
  %after = add i64 %line, 1
  br label %rest
next:
  %following = add i64 %number, 1
  br label %head
done:
  ret void
}
"""


@once
def _library() -> Library:
    """It keeps the code loaded."""
    return compile_module(TEXT, host())


def landing() -> int:
    """The address of the code, which has the type of a routine."""
    return _library().address("graphc_land")
