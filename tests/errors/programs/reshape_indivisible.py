"""A -1 that cannot be worked out."""

import graphc as g

x = g.placeholder(g.float32, [3, 4], name="x")
y = g.reshape(x, [5, -1])
