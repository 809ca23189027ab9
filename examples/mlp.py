"""A network with two hidden layers predicts house prices better than a straight line can.

Mini-batches, AdamW with a warm-up and a cosine decay, clipped gradients, dropout. You see loss and
learning rate for some epochs, then R^2 on unseen districts (a linear model reaches 0.63).
"""

from pathlib import Path

import numpy as np

import graphc as g

EPOCHS, BATCH = 60, 64


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


def layer(x, inputs, outputs, name):
    with g.name_scope(name):
        w = g.Variable(g.init.glorot_uniform([inputs, outputs]), name="w")
        b = g.Variable(g.init.zeros([outputs]), name="b")
        return x @ w + b


data_x, data_y = load()
train, test = slice(0, 1600), slice(1600, None)
steps = EPOCHS * 1600 // BATCH

x = g.placeholder(g.float32, ["batch", 8], name="features")
y = g.placeholder(g.float32, ["batch"], name="price")
training = g.placeholder(g.bool_, [], name="training")
hidden = g.nn.relu(layer(x, 8, 64, "first"))
hidden = g.nn.relu(layer(g.nn.dropout(hidden, 0.05, training=training), 64, 64, "second"))
prediction = layer(hidden, 64, 1, "last")[:, 0]
loss = g.mean((prediction - y) ** 2)

rate = g.optim.warmup(g.optim.cosine_decay(0.005, steps), steps=50)
optimiser = g.optim.AdamW(rate, weight_decay=0.01, global_clip_norm=5.0)
train_step = optimiser.minimize(loss)

with g.Session(seed=0) as session:
    run = session.prepare([loss, rate(optimiser.step), train_step], [x, y, training])
    rng = np.random.default_rng(0)
    for epoch in range(EPOCHS):
        for chosen in rng.permutation(1600).reshape(-1, BATCH):
            value, current, _ = run(data_x[chosen], data_y[chosen], True)
        if epoch % 10 == 0 or epoch == EPOCHS - 1:
            print(f"epoch {epoch:2d}   loss {value:.3f}   learning rate {current:.5f}")
    predicted = session.run(prediction, {x: data_x[test], training: False})

error = np.mean((predicted - data_y[test]) ** 2) / np.var(data_y[test])
print(f"R^2 on unseen districts: {1 - error:.3f}")
