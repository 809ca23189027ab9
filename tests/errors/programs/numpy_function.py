"""NumPy's function of a tensor."""

import numpy as np

import graphc as g

x = g.placeholder(g.float32, [3], name="x")
y = np.exp(x)
