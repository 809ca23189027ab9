"""A gradient with respect to integers."""

import graphc as g

n = g.placeholder(g.int64, [3], name="n")
cost = (n * 0.5).sum()
slope = g.grad(cost, n)
