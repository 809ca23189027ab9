"""What a device is to a session: it compiles an optimised graph into a program, and runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from graphc.dims import Symbol
from graphc.dtypes import Array
from graphc.graph import Graph, Node
from graphc.kernel import Kernel


class Limits(NamedTuple):
    """What all threads of a machine do at most."""

    operations: float  # float32 products and sums, a second
    bytes: float  # read and written, a second


class Noted(NamedTuple):
    """What a kernel or a node inside of a loop did, in all its steps together."""

    what: Node | Kernel
    seconds: float | None  # None: the loop was timed as a whole
    moved: int
    work: int = 0
    times: int = 1
    inside: Sequence[Noted] = ()


class Note(Protocol):
    """Gets what a run did, step by step: a node, or a kernel that was made of several."""

    def __call__(
        self,
        what: Node | Kernel,
        seconds: float,
        moved: int,
        work: int = 0,
        times: int = 1,
        inside: Sequence[Noted] = (),
    ) -> None:
        """`moved` are bytes read and written, `work` element operations, about (0: not known).

        Of a loop, `times` is how many steps it made, and `inside` what was done in them.
        """
        ...


class Snapshot(dict[Node, Array]):
    """Values of variables that stay as they are until the next write: to be referred to weakly."""

    __slots__ = ("__weakref__",)


class Environment(NamedTuple):
    """What one run brings beside its feeds.

    Runs with feeds of shapes that were met before mostly bring the same `sizes` object again, and
    as long as nothing has been written the same `variables`.
    """

    sizes: Mapping[Symbol, int]
    variables: Mapping[Node, Array]  # the values at the start of the run, never written to
    entropy: Array  # uint64[2]: the session's seed and the run's number
    note: Note | None = None


class Residence(Protocol):
    """Keeps variables from run to run, so that their values are not handed in and out.

    Its runs compute what those of its program do, bit for bit. One thread at a time uses it.
    """

    nodes: Sequence[Node]  # the variables that it reads, among them all that it writes
    sizes: Mapping[Symbol, int] | None  # of the runs that it is ready for

    def bind(self, sizes: Mapping[Symbol, int]) -> bool:
        """Make ready for runs of these sizes; False where they are no runs for it."""
        ...

    def hold(self, arrays: Sequence[Array]) -> None:
        """Take over the values of `nodes`, which stay as they are while runs read them."""
        ...

    def run(self, feeds: Sequence[Array], entropy: Array | None) -> list[Array]:
        """The outputs; updates land as a whole, or not at all where it raises."""
        ...

    def values(self) -> Sequence[Array | None]:
        """The values of the variables that are written, in the order of the graph's updates.

        None: the value is still what it was when it was handed over.
        """
        ...


class Program(Protocol):
    """A compiled graph.

    It may have more attributes. `fresh = True` says that `run` returns new arrays, which share no
    memory with feeds, variables or earlier results (roots that are one tensor may be one array):
    the caller writes to them. `summary` is a mapping for the compile report. `memory(sizes)` says
    what a run of these sizes takes. `residence(leaving)` gives a `Residence`, or None, which calls
    `leaving` where it cannot keep the values any longer.
    """

    def run(self, feeds: Sequence[Array], environment: Environment) -> Sequence[Array]:
        """The values of the graph's roots: its outputs, then what its updates will write."""
        ...


class Device(Protocol):
    """One folder of `runtime/`.

    It may have `close()`, which frees what its programs hold. A session calls that where it opened
    the device itself.
    """

    name: str
    notes: bool  # whether its programs note their steps for a profile

    def compile(self, graph: Graph, check: str | None = None) -> Program:
        """A program for an optimised graph."""
        ...

    def limits(self) -> Limits | None:
        """What the machine does at most; None where that means nothing."""
        ...
