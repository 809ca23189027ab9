"""Logistic regression: does a district of California cost more than the median district?

You see the cross entropy fall under Adam, the accuracy on unseen districts, and the weights: what
makes a district expensive, and what makes it cheap.
"""

from pathlib import Path

import numpy as np

import graphc as g

NAMES = ["income", "age", "latitude", "longitude", "rooms a household", "people a household"]


def load():
    """Features with mean 0 and deviation 1, and 1 for dear or 0 for cheap; see data/ORIGIN.md."""
    file = Path(__file__).with_name("data") / "housing.csv"
    columns = np.loadtxt(file, delimiter=",", skiprows=1).T
    longitude, latitude, age, rooms, _, people, households, income, value = columns
    x = np.stack(
        [income, age, latitude, longitude, np.log(rooms / households), np.log(people / households)],
        axis=1,
    )
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), value > np.median(value)
    order = np.random.default_rng(0).permutation(len(y))
    return x[order].astype(np.float32), y[order].astype(np.float32)


data_x, data_y = load()
train, test = slice(0, 1600), slice(1600, None)

x = g.placeholder(g.float32, ["districts", len(NAMES)], name="features")
y = g.placeholder(g.float32, ["districts"], name="dear")
w = g.Variable(np.zeros(len(NAMES), np.float32), name="w")
b = g.Variable(0.0, name="b")
logits = x @ w + b
penalty = 1e-3 * g.sum(w * w)
loss = g.mean(g.nn.sigmoid_cross_entropy_with_logits(y, logits)) + penalty
right = g.equal(logits > 0, y > 0.5)
accuracy = g.mean(g.cast(right, g.float32))
train_step = g.optim.Adam(0.05).minimize(loss)

with g.Session() as session:
    for step in range(401):
        value, _ = session.run([loss, train_step], {x: data_x[train], y: data_y[train]})
        if step % 100 == 0:
            print(f"step {step:3d}   loss {value:.4f}")
    score = session.run(accuracy, {x: data_x[test], y: data_y[test]})
    weights = session.get(w)

for name, weight in sorted(zip(NAMES, weights, strict=True), key=lambda pair: pair[1]):
    print(f"{name:>20}  {weight:+.2f}")
print(f"accuracy on unseen districts: {score:.3f}")
