"""Everything that is wrong is listed at once."""

import numpy as np

import graphc as g

x = g.placeholder(g.float32, ["batch", 3], name="x")
y = g.placeholder(g.int64, ["batch"], name="y")
z = g.placeholder(g.float32, [], name="z")
with g.Session() as s:
    s.run(x.sum(axis=1) + y + z, {x: np.zeros((32, 4)), y: np.zeros(32)})
