"""A cost that does not depend on a weight."""

import graphc as g

x = g.placeholder(g.float32, ["batch", 3], name="x")
w = g.Variable(g.zeros([3]), name="w")
unused = g.Variable(g.zeros([3]), name="unused")
cost = (x * w).sum()
slopes = g.gradients(cost, [w, unused])
