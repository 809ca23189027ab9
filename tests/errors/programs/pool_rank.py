"""Pooling of a matrix."""

import graphc as g

x = g.placeholder(g.float32, [28, 28])
y = g.nn.max_pool2d(x, 2)
