"""An OpenCL device: kernels become OpenCL C for whatever its driver runs on."""

from __future__ import annotations

from typing import Any

from graphc import lazy
from graphc.graph import Graph
from graphc.lower import lower
from graphc.runtime.device import Limits
from graphc.runtime.numerics import CheckedProgram
from graphc.runtime.opencl.building import Builder
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.generate import Generator
from graphc.runtime.opencl.memory import Memory
from graphc.runtime.opencl.platforms import choose
from graphc.runtime.opencl.program import OpenclProgram
from graphc.runtime.opencl.selftest import admit
from graphc.runtime.opencl.tuning import Tuning

opencl = lazy.Module("pyopencl")


class OpenclDevice:
    """The device of a context; `name` is as `Session(device=name)` takes it."""

    notes = True

    def __init__(self, context: Any, handle: Any, capabilities: Capabilities, name: str) -> None:
        self.name, self.capabilities, self.context_device = name, capabilities, handle
        self.memory = Memory(context, capabilities)
        self._builder = Builder(context, handle, capabilities)
        tuned = Tuning(context, handle, self._builder, capabilities)
        self._generate = Generator(capabilities, tuned)

    def compile(self, graph: Graph, check: str | None = None) -> OpenclProgram | CheckedProgram:
        """A program for an optimised graph."""
        plan, targets = lower(graph), [variable.node for variable, _ in graph.updates]
        program = OpenclProgram(plan, self._generate, self._builder, self.memory, check, targets)
        return program if check is None else CheckedProgram(graph, program)

    def close(self) -> None:
        """Free all memory on the device. No run follows."""
        self.memory.close()

    def limits(self) -> Limits | None:
        """None: a driver does not say what its device does at most."""
        return None


def open_opencl(name: str) -> OpenclDevice:
    """The device that a name means, if it computes rightly; see `platforms.choose`."""
    found = choose(name)
    context = opencl.Context([found.handle])
    admit(found.capabilities, context, opencl.CommandQueue(context))
    return OpenclDevice(context, found.handle, found.capabilities, found.name)
