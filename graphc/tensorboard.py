"""TensorBoard: scalars over steps, and graphs with shapes. Needs the extra `tensorboard`.

Enters: a folder, numbers with their steps, fetches. Leaves: event files, written by TensorBoard's
own writer; `tensorboard --logdir FOLDER` shows them. Nothing is added to a program's graph, so a
run needs no other feeds and draws the same random numbers with a writer as without.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np

from graphc import lazy
from graphc.control import entries
from graphc.dims import Dim
from graphc.errors import FetchError, require, trimmed
from graphc.graph import Body, Graph, Node, Tensor, bodies
from graphc.show import Naming
from graphc.stages import graph_at

events = lazy.Module("tensorboard.compat.proto.event_pb2")
graphs = lazy.Module("tensorboard.compat.proto.graph_pb2")
summaries = lazy.Module("tensorboard.compat.proto.summary_pb2")
writers = lazy.Module("tensorboard.summary.writer.event_file_writer")

# the numbers of tensorboard.compat.proto.types_pb2
TYPES = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "int64": 9,
    "bool": 10, "uint16": 17, "float16": 19, "uint32": 22, "uint64": 23,
}  # fmt: skip


class Writer:
    """Writes a folder that TensorBoard shows; also a context manager.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Writer(folder) as writer:
    ...     writer.scalar("loss", 0.25, step=1)
    """

    @trimmed
    def __init__(self, folder: str | PathLike[str]) -> None:
        try:
            self._writer = writers.EventFileWriter(fspath(folder))
        except ModuleNotFoundError as error:
            raise FetchError(
                f'tensorboard: the package is not here ({error}): pip install "graphc[tensorboard]"'
            ) from None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left and end the file."""
        self._writer.close()

    @trimmed
    def scalar(self, name: str, value: Any, step: int) -> None:
        """One number of a curve, such as a loss that a run has returned."""
        number = np.asarray(value)
        is_one = number.size == 1 and number.dtype.kind in "biuf"
        require(is_one, "scalar", "the value must be one number", value)
        row = summaries.Summary.Value(tag=name, simple_value=number.item())
        self._add(summary=summaries.Summary(value=[row]), step=int(step))

    @trimmed
    def graph(self, fetches: Any, stage: str = "source") -> None:
        """The graph that some fetches reach; `stage` is that of `show`."""
        definition = graph_definition(graph_at(fetches, stage))
        self._add(graph_def=definition.SerializeToString())

    def _add(self, **content: Any) -> None:
        self._writer.add_event(events.Event(wall_time=time.time(), **content))


def graph_definition(graph: Graph) -> Any:
    """A graph as TensorFlow's GraphDef: names with their scopes, operands, and output shapes.

    The body of a loop or a branch is a scope of its own, `rnn/body`: its parameters read the
    operands of the node, and the node reads what the body leaves.
    """
    written = _Written(Naming())
    written.add(graph, "", {})
    for variable, value in graph.updates:
        written.update(variable, value)
    return written.definition


class _Written:
    """A GraphDef, as it grows."""

    def __init__(self, naming: Naming) -> None:
        self.naming, self.definition = naming, graphs.GraphDef()

    def add(self, graph: Graph, scope: str, given: Mapping[Node, Sequence[str]]) -> None:
        """The nodes of a graph; `given` says what parameters read."""
        for node in dict.fromkeys((*(t.node for t in graph.inputs), *graph.nodes)):
            found = given.get(node)
            self.node(node, scope, self.operands(node, scope) if found is None else found)

    def operands(self, node: Node, scope: str) -> list[str]:
        """What a node reads; the bodies inside of it are written first."""
        found = [self.operand(tensor, scope) for tensor in node.inputs]
        for name, body in bodies(node).items():
            inside, given = f"{self.name(node, scope)}/{name}/", {}
            for entry in entries(node, name):
                outside = [] if entry.outside is None else [self.operand(entry.outside, scope)]
                given[entry.parameter.node] = outside
            self.add(body.graph, inside, given)
            found += dict.fromkeys(self.operand(t, inside) for t in body.graph.outputs)
        return found

    def node(self, node: Node, scope: str, operands: Sequence[str]) -> None:
        """One entry."""
        entry = self.definition.node.add(name=self.name(node, scope), op=node.op.name)
        entry.input.extend(operands)
        entry.attr["line"].s = str(node.where).encode()
        entry.attr["dtype"].type = TYPES[node.types[0].dtype.name]
        for key, value in node.attrs.items():
            if key == "frame" or isinstance(value, Body):
                continue
            entry.attr[f"graphc_{key}"].s = self.naming.value(value).encode()
        for type in node.types:
            shape = entry.attr["_output_shapes"].list.shape.add(unknown_rank=type.shape is None)
            for size in type.shape or ():
                shape.dim.add(size=-1 if isinstance(size, Dim) else size)

    def update(self, variable: Tensor, value: Tensor) -> None:
        """A value that is written to a variable."""
        name = f"{self.name(variable.node, '')}/update"
        entry = self.definition.node.add(name=name, op="assign")
        entry.input.extend([self.operand(variable, ""), self.operand(value, "")])

    def name(self, node: Node, scope: str) -> str:
        """A unique name whose slashes are the scopes: nameless nodes stand in theirs by number."""
        name = self.naming.node(node)
        if node.name is None:
            inside = f"{node.op.name}_{name}"
            name = inside if node.scope is None else node.scope.label(inside)
        return scope + name

    def operand(self, tensor: Tensor, scope: str) -> str:
        """A tensor as what another node reads."""
        return self.name(tensor.node, scope) + (f":{tensor.index}" if tensor.index else "")
