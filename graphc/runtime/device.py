"""What a device is to a session: it compiles an optimised graph into a program, and runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from graphc.dims import Symbol
from graphc.dtypes import Array
from graphc.graph import Graph, Node

Note: TypeAlias = Callable[[Node, float, int], None]  # gets each step's seconds and bytes


@dataclass(frozen=True, slots=True)
class Environment:
    """What one run brings beside its feeds."""

    sizes: Mapping[Symbol, int]
    variables: Mapping[Node, Array]  # the values at the start of the run
    entropy: Array  # uint64[2]: the session's seed and the run's number
    note: Note | None = None


class Program(Protocol):
    """A compiled graph."""

    def run(self, feeds: Sequence[Array], environment: Environment) -> Sequence[Array]:
        """The values of the graph's roots: its outputs, then what its updates will write."""
        ...


class Device(Protocol):
    """One folder of `runtime/`."""

    name: str
    notes: bool  # whether its programs note their steps for a profile

    def compile(self, graph: Graph, check: str | None = None) -> Program:
        """A program for an optimised graph."""
        ...
