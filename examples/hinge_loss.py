"""A hinge loss written three ways: by max, by ifelse and by switch; a linear SVM with each.

`maximum` and `switch` (`where`) choose element by element, and compute both sides; `ifelse` chooses
once, lazily: here for each row, inside a `scan`. You see that loss and weights agree, and that the
side that is not taken does not run. Is a district of California dear or cheap?
"""

from pathlib import Path

import numpy as np

import graphc as g

STEPS, RATE, PENALTY = 150, 0.1, 1e-3


def load():
    """Features with mean 0 and deviation 1, and 1 for dear or -1 for cheap; see data/ORIGIN.md."""
    file = Path(__file__).with_name("data") / "housing.csv"
    columns = np.loadtxt(file, delimiter=",", skiprows=1).T
    longitude, latitude, age, rooms, _, people, households, income, value = columns
    features = [income, age, latitude, longitude, rooms / households, np.log(people / households)]
    x = np.stack(features, axis=1)
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), np.where(value > np.median(value), 1, -1)
    order = np.random.default_rng(0).permutation(len(y))
    return x[order].astype(np.float32), y[order].astype(np.float32)


def by_max(margin):
    return g.maximum(1.0 - margin, 0.0)


def by_switch(margin):
    return g.switch(margin < 1.0, 1.0 - margin, 0.0)


def by_ifelse(margin):
    """Row by row; a condition is one bool, so the rows are walked over by a loop."""
    return g.scan(lambda m: g.ifelse(m < 1.0, lambda: 1.0 - m, lambda: 0.0 * m), sequences=margin)


data_x, data_y = load()
train, test = slice(0, 1600), slice(1600, None)
x = g.placeholder(g.float32, ["districts", 6], name="features")
y = g.placeholder(g.float32, ["districts"], name="dear")

weights = []
with g.Session() as session:
    for hinge in (by_max, by_switch, by_ifelse):
        w = g.Variable(np.zeros(6, np.float32), name="w")
        b = g.Variable(0.0, name="b")
        scores = x @ w + b
        loss = g.mean(hinge(y * scores)) + PENALTY * g.sum(w * w)
        step = g.optim.SGD(RATE).minimize(loss)
        run = session.prepare([loss, step], [x, y])
        for _ in range(STEPS):
            value, _ = run(data_x[train], data_y[train])
        right = g.mean(g.cast(g.equal(scores > 0, y > 0), g.float32))
        share = session.run(right, {x: data_x[test], y: data_y[test]})
        weights.append(session.get(w))
        name = hinge.__name__.replace("_", " ")
        print(f"{name:>9}: loss {value:.5f}   accuracy on unseen districts: {share:.3f}")

    apart = max(float(np.abs(other - weights[0]).max()) for other in weights[1:])
    print(f"weights differ by at most {apart:.1e}")

    # ifelse is lazy, wherever a side was created: what it does not need cannot fail either.
    rows = g.placeholder(g.float32, ["rows"], name="rows")
    row = g.placeholder(g.int64, [], name="row")
    found = g.take(rows, row, axis=0)  # an error where there is no such row
    safe = g.ifelse(row < g.shape(rows)[0], found, -1.0)
    values = [session.run(safe, {rows: [5, 6], row: number}).item() for number in (0, 1, 7)]
    print("rows 0, 1 and 7 of two, or -1:", *values)
