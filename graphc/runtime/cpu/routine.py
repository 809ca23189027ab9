"""What a native step is: the code of a kernel, what it takes, and how a run cuts it into chunks.

Enters: a generator's IR text. Leaves: a `Routine`, which the program links and binds. Its module
defines one function,

    void routine(ptr record, i64 begin, i64 end)

which computes the units `begin <= u < end` of `count`; units are independent of each other, so any
split over threads computes the same bits. `record` is an array of i64 words:

    0                 address of the buffer table: the address of each buffer, by slot
    1                 address of the fault cell: two i64, zero until something is wrong
    2, 3              address of the workspace, and its bytes for one chunk; the first word of all
                      is zero when a launch of several chunks begins: they may count in it
    4                 the grain: a chunk is `begin / grain`, and owns that part of the workspace
    5 ...             the slot of each of `buffers`
    then              the value of each of `sizes`

A routine that meets an index that is out of range writes the number of the fault plus one, and the
offending index, to the fault cell, unless one is there already, and returns. The text names no
address and no kernel, so equal kernels are one text, compiled once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from graphc.dims import Dimension
from graphc.kernel import Buffer, Kernel
from graphc.runtime.faults import Fault, Needed

NAME = "routine"
TABLE, FAULT, WORKSPACE, SHARE, GRAIN, FIRST = range(6)  # the words of a record
CHUNK = 16_384  # element operations worth a thread's attention: some microseconds


class Launch(NamedTuple):
    """How one run calls a routine: units, units in a chunk, bytes of workspace for a chunk."""

    count: int  # type: ignore[assignment]  # nobody counts in a launch
    grain: int
    workspace: int = 0


class Space(NamedTuple):
    """Workspace of a routine: bytes for each chunk, of which there are `chunks` at most."""

    bytes: Dimension
    chunks: int


@dataclass(frozen=True, slots=True, eq=False)
class Routine:
    """One native step. What it reads and writes are `buffers`; `writes` are those written."""

    kernel: Kernel
    code: str
    buffers: tuple[Buffer, ...]
    sizes: tuple[Dimension, ...]
    writes: frozenset[Buffer]
    count: Dimension
    work: Dimension  # element operations of one unit, about
    faults: tuple[Fault, ...] = ()
    needs: tuple[Needed, ...] = ()
    symbols: Mapping[str, int] = field(default_factory=dict)  # addresses that the code declares
    keeps: tuple[Any, ...] = ()  # what must live as long as the code
    space: Space | None = None
    effort: str = "fast"  # of LLVM, as `compile_module` names it
    # The address of void(ptr sizes, ptr launch): native code that writes the words of a `Launch`
    # for the words of `sizes`, where the rest of this does not decide it. When it is called, the
    # second word is the number of threads.
    cut: int | None = None
