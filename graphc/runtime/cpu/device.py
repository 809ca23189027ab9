"""The CPU as a device: kernels become LLVM's code for the processor that this process runs on."""

from __future__ import annotations

from graphc.graph import Graph
from graphc.lower import lower
from graphc.runtime.cpu import roofline
from graphc.runtime.cpu.generate import compile_kernel
from graphc.runtime.cpu.program import CpuProgram
from graphc.runtime.cpu.reuse import Reuse
from graphc.runtime.cpu.target import host
from graphc.runtime.device import Limits
from graphc.runtime.numerics import CheckedProgram


class CpuDevice:
    """The device of that name; `threads` is the most that a run uses (None: all)."""

    name = "cpu"
    notes = True

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads
        self._generate = Reuse(compile_kernel)

    def compile(self, graph: Graph, check: str | None = None) -> CpuProgram | CheckedProgram:
        """A native program for an optimised graph."""
        plan, targets = lower(graph), [variable.node for variable, _ in graph.updates]
        program = CpuProgram(plan, self._generate, host(), self.threads, check, targets)
        return program if check is None else CheckedProgram(graph, program)

    def limits(self) -> Limits | None:
        """The peak of arithmetic and the rate of copying, measured once a process."""
        return roofline.limits()
