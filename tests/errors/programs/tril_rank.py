"""A triangle of a vector."""

import graphc as g

x = g.placeholder(g.float32, [3])
y = g.tril(x)
