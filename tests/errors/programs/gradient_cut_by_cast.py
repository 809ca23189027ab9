"""A cost that was made an integer on the way."""

import graphc as g

w = g.Variable(2.5, name="w")
cost = g.cast(g.cast(w * 2, g.int32), g.float32)
slope = g.grad(cost, w)
