"""The plan: what a run does, in order, over buffers. Devices see this and kernels, never a graph.

A step calls a kernel, or the host (an op's NumPy meaning, between native segments). Sizes in it are
symbolic; a run binds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from graphc.dims import Dimension
from graphc.dtypes import Array
from graphc.graph import Node
from graphc.kernel import Buffer, Kernel


@dataclass(frozen=True, slots=True)
class Call:
    """Run a kernel."""

    kernel: Kernel


@dataclass(frozen=True, slots=True)
class Host:
    """Run an op's oracle on whole arrays."""

    node: Node
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]


Step: TypeAlias = Call | Host


@dataclass(frozen=True, slots=True)
class Demand:
    """Two sizes that must be equal in a run: else a ShapeError of this text, and both values."""

    left: Dimension
    right: Dimension
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps over buffers: what is fed, what variables hold, what comes out."""

    inputs: tuple[Buffer, ...]
    variables: tuple[tuple[Node, Buffer], ...]
    entropy: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    roots: tuple[Buffer, ...]
    aliases: tuple[tuple[Buffer, Buffer], ...] = ()  # (one, the one whose storage it shares)
    constants: tuple[tuple[Buffer, Array], ...] = ()
    demands: tuple[Demand, ...] = ()
