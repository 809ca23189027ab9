"""Linear regression by gradient descent, on 2,000 districts of California.

You see the loss fall, then R^2 (the part of the prices' variance that the model explains) on
districts that it has not seen, beside that of NumPy's exact least squares: they agree.
"""

from pathlib import Path

import numpy as np

import graphc as g


def load():
    """Features with mean 0 and deviation 1, prices in 100,000 USD; see data/ORIGIN.md."""
    file = Path(__file__).with_name("data") / "housing.csv"
    columns = np.loadtxt(file, delimiter=",", skiprows=1).T
    longitude, latitude, age, rooms, bedrooms, people, households, income, value = columns
    features = [income, age, latitude, longitude, np.log(households)]
    features += [np.log(rooms / households), np.log(bedrooms / rooms), np.log(people / households)]
    x = np.stack(features, axis=1)
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), value / 1e5
    order = np.random.default_rng(0).permutation(len(y))
    return x[order].astype(np.float32), y[order].astype(np.float32)


def r_squared(predicted, actual):
    return 1 - np.mean((predicted - actual) ** 2) / np.var(actual)


data_x, data_y = load()
train, test = slice(0, 1600), slice(1600, None)
count = data_x.shape[1]

x = g.placeholder(g.float32, ["districts", count], name="features")
y = g.placeholder(g.float32, ["districts"], name="price")
w = g.Variable(np.zeros(count, np.float32), name="w")
b = g.Variable(0.0, name="b")
prediction = x @ w + b
loss = g.mean((prediction - y) ** 2)
train_step = g.optim.SGD(0.1, momentum=0.9).minimize(loss)

with g.Session() as session:
    for step in range(601):
        value, _ = session.run([loss, train_step], {x: data_x[train], y: data_y[train]})
        if step % 100 == 0:
            print(f"step {step:3d}   loss {value:.4f}")
    predicted = session.run(prediction, {x: data_x[test]})

ones = np.ones((len(data_x), 1), np.float32)
design = np.concatenate([data_x, ones], axis=1)
exact = design[test] @ np.linalg.lstsq(design[train], data_y[train], rcond=None)[0]
print(f"R^2 on unseen districts: {r_squared(predicted, data_y[test]):.3f}")
print(f"R^2 of least squares:    {r_squared(exact, data_y[test]):.3f}")
