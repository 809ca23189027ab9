"""A cost behind stop_gradient."""

import graphc as g

w = g.Variable(g.zeros([3]), name="w")
cost = g.stop_gradient(w * w).sum()
slope = g.grad(cost, w)
