"""One named size, two sizes fed."""

import numpy as np

import graphc as g

x = g.placeholder(g.float32, ["batch", 3], name="x")
y = g.placeholder(g.float32, ["batch"], name="y")
with g.Session() as s:
    s.run(x.sum(axis=1) + y, {x: np.zeros((32, 3)), y: np.zeros(31)})
