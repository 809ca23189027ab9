"""Training that moves from device to device, each stretch on another, through save and restore.

A checkpoint knows no device: it holds the weights and what the optimiser remembers. The loss
falls on, whichever device is next, and ends where a training ends that never moved.
"""

import itertools
import tempfile
from pathlib import Path

import numpy as np

import graphc as g

STRETCHES, STEPS = 6, 40
rng = np.random.default_rng(0)
inputs = rng.uniform(-3, 3, (256, 1)).astype(np.float32)
targets = np.sin(2 * inputs)

x = g.placeholder(g.float32, ["batch", 1], name="x")
y = g.placeholder(g.float32, ["batch", 1], name="y")
w1 = g.Variable(rng.normal(0, 2, (1, 32)).astype(np.float32), name="w1")
b1 = g.Variable(rng.normal(0, 2, 32).astype(np.float32), name="b1")
w2 = g.Variable(rng.normal(0, 0.2, (32, 1)).astype(np.float32), name="w2")
loss = g.mean((g.tanh(x @ w1 + b1) @ w2 - y) ** 2)
train_step = g.optim.Adam(0.01).minimize(loss)
feeds = {x: inputs, y: targets}


def train(session, steps):
    for _ in range(steps):
        session.run(train_step, feeds)
    return float(session.run(loss, feeds))


usable = [d.name for d in g.devices() if d.usable and d.name.startswith("opencl")]
with tempfile.TemporaryDirectory() as folder:
    checkpoint = Path(folder) / "training.zip"
    places = itertools.cycle(["cpu", *usable])
    for stretch, name in zip(range(STRETCHES), places, strict=False):
        with g.Session(name) as session:
            if stretch:
                session.restore(checkpoint)
            moved = train(session, STEPS)
            session.save(checkpoint)
        print(f"after {STEPS * (stretch + 1):3d} steps, the last {STEPS} on {name:<9} {moved:.6f}")

with g.Session() as session:
    stayed = train(session, STRETCHES * STEPS)
print(f"on the cpu all the time:              {stayed:.6f}")
print(f"relative difference of the losses: {abs(moved - stayed) / stayed:.1e}")
