"""Training that is interrupted, saved, and taken up again by a new session: the result is the same.

The file holds the weights and all that the optimiser remembers (moments, counts of steps). You see
what is in it, and that 50 + 50 steps make the same weights as 100, to the last bit.
"""

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np

import graphc as g

rng = np.random.default_rng(0)
inputs = rng.uniform(-3, 3, (256, 1)).astype(np.float32)
targets = np.sin(2 * inputs)

x = g.placeholder(g.float32, ["batch", 1], name="x")
y = g.placeholder(g.float32, ["batch", 1], name="y")
with g.name_scope("hidden"):
    w1 = g.Variable(rng.normal(0, 2, (1, 32)).astype(np.float32), name="w")
    b1 = g.Variable(rng.normal(0, 2, 32).astype(np.float32), name="b")
with g.name_scope("output"):
    w2 = g.Variable(rng.normal(0, 0.2, (32, 1)).astype(np.float32), name="w")
loss = g.mean((g.tanh(x @ w1 + b1) @ w2 - y) ** 2)
train_step = g.optim.Nadam(0.02).minimize(loss)


def train(session, steps):
    for _ in range(steps):
        session.run(train_step, {x: inputs, y: targets})
    return session.run(loss, {x: inputs, y: targets})


with g.Session() as session:
    print(f"loss after 100 steps in one session:  {train(session, 100):.6f}")
    expected = session.get(w1)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "weights.zip"
    with g.Session() as session:
        print(f"loss after 50 steps:                  {train(session, 50):.6f}")
        session.save(path)
    with zipfile.ZipFile(path) as archive:
        index = json.loads(archive.read("index.json"))
    print("the file holds:", *(row["name"] for row in index["variables"]), sep="\n    ")
    with g.Session() as session:
        session.restore(path)
        print(f"loss after 50 more in a new session:  {train(session, 50):.6f}")
        found = session.get(w1)
print("the same weights, bit for bit:", np.array_equal(expected, found))
