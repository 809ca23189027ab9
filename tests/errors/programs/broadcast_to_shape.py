"""A shape that the tensor does not broadcast to."""

import graphc as g

x = g.placeholder(g.float32, [3])
y = g.broadcast_to(x, [3, 4])
