"""A feed whose second size is wrong."""

import numpy as np

import graphc as g

x = g.placeholder(g.float32, ["batch", 784], name="x")
with g.Session() as s:
    s.run(x * 2, {x: np.zeros((32, 785), np.float32)})
