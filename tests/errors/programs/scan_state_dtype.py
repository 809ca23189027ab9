"""A state that a step returns in another dtype."""

import numpy as np

import graphc as g

x = g.placeholder("float32", [None], name="x")
scale = g.constant(np.float64(0.5), name="scale")
g.scan(lambda row, h: h * scale + row, x, g.constant(0.0, name="start"))
