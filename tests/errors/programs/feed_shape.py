"""A feed of another shape."""

import numpy as np

import graphc as g

x = g.placeholder(g.float32, ["batch", 784], name="x")
with g.Session() as s:
    s.run(x * 2, {x: np.zeros((32, 28, 28), np.float32)})
