"""TensorBoard: scalars over steps, and graphs with shapes. Needs the extra `tensorboard`.

Enters: a folder, numbers with their steps, fetches. Leaves: event files, written by TensorBoard's
own writer; `tensorboard --logdir FOLDER` shows them. Nothing is added to a program's graph, so a
run needs no other feeds and draws the same random numbers with a writer as without.
"""

from __future__ import annotations

import time
from os import PathLike, fspath
from typing import Any

import numpy as np

from graphc import lazy
from graphc.dims import Dim
from graphc.errors import FetchError, require, trimmed
from graphc.graph import Graph, Tensor
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
    """A graph as TensorFlow's GraphDef: names with their scopes, operands, and output shapes."""
    naming = Naming()
    definition = graphs.GraphDef()
    for node in (*(t.node for t in graph.inputs), *graph.nodes):
        entry = definition.node.add(name=_name(naming, node), op=node.op.name)
        entry.input.extend(_operand(naming, tensor) for tensor in node.inputs)
        entry.attr["line"].s = str(node.where).encode()
        entry.attr["dtype"].type = TYPES[node.types[0].dtype.name]
        for key, value in node.attrs.items():
            entry.attr[f"graphc_{key}"].s = naming.value(value).encode()
        for type in node.types:
            shape = entry.attr["_output_shapes"].list.shape.add(unknown_rank=type.shape is None)
            for size in type.shape or ():
                shape.dim.add(size=-1 if isinstance(size, Dim) else size)
    for variable, value in graph.updates:
        update = definition.node.add(name=f"{_name(naming, variable.node)}/update", op="assign")
        update.input.extend([_operand(naming, variable), _operand(naming, value)])
    return definition


def _name(naming: Naming, node: Any) -> str:
    """A unique name whose slashes are the scopes: nameless nodes stand in theirs by number."""
    name = naming.node(node)
    if node.name is not None:
        return name
    inside = f"{node.op.name}_{name}"
    return inside if node.scope is None else node.scope.label(inside)


def _operand(naming: Naming, tensor: Tensor) -> str:
    suffix = f":{tensor.index}" if tensor.index else ""
    return _name(naming, tensor.node) + suffix
