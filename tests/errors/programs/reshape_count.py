"""A shape that holds another number of elements."""

import graphc as g

x = g.placeholder(g.float32, [3, 4], name="x")
y = x.reshape(5, 2)
