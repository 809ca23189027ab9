"""A constant made of a tensor."""

import graphc as g

x = g.placeholder(g.float32, [3])
c = g.constant(x)
