"""TensorBoard reads back what the writer wrote."""

import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.types_pb2 import DataType

import graphc as g
from graphc.tensorboard import TYPES, Writer


def network():
    x = g.placeholder("float32", ["batch", 3], name="x")
    with g.name_scope("layer"):
        w = g.Variable(np.ones((3, 2), np.float32), name="w")
        y = g.nn.relu(x @ w)
    loss = g.mean(y, name="loss")
    return loss, g.optim.SGD(0.1).minimize(loss)


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_scalars_come_back(tmp_path):
    with Writer(tmp_path) as writer:
        for step in range(3):
            writer.scalar("loss", np.float32(1 / (step + 1)), step)
    rows = read(tmp_path).Scalars("loss")
    assert [row.step for row in rows] == [0, 1, 2]
    assert [row.value for row in rows] == pytest.approx([1, 0.5, 1 / 3])


@pytest.mark.parametrize("stage", ["source", "optimised"])
def test_graphs_come_back_with_scopes_and_shapes(tmp_path, stage):
    loss, train = network()
    with Writer(tmp_path) as writer:
        writer.graph([loss, train], stage)
    nodes = {node.name: node for node in read(tmp_path).Graph().node}
    assert {"x", "layer/w", "loss", "layer/w/update"} <= set(nodes)
    product = next(n for n in nodes.values() if n.op == "matmul" and n.name.startswith("layer/"))
    assert list(product.input) == ["x", "layer/w"]
    [shape] = product.attr["_output_shapes"].list.shape
    assert [d.size for d in shape.dim] == [-1, 2]
    assert product.attr["line"].s.startswith(b"test_tensorboard.py:")
    for node in nodes.values():
        assert all(name.partition(":")[0] in nodes for name in node.input)


def test_every_dtype_has_its_number():
    for name, number in TYPES.items():
        spelled = {"float16": "HALF", "float32": "FLOAT", "float64": "DOUBLE"}.get(
            name, name.upper()
        )
        assert DataType.Value(f"DT_{spelled}") == number


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    with pytest.raises(g.FetchError, match=r"pip install \"graphc\[tensorboard\]\""):
        Writer(tmp_path)


@pytest.mark.parametrize("value", [np.ones(3), "0.5", None])
def test_what_is_no_number_is_refused_with_the_users_line(tmp_path, value):
    with Writer(tmp_path) as writer, pytest.raises(ValueError, match="one number") as error:
        writer.scalar("loss", value, 1)
    assert "test_tensorboard.py:" in str(error.value)
