"""Indices that are floats."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
y = g.take(x, [0.5, 1.0], axis=0)
