"""Theano's grad of a cost for each example."""

import graphc as g

w = g.Variable(g.zeros([3]), name="w")
x = g.placeholder(g.float32, ["batch", 3], name="x")
cost = (x * w).sum(axis=1)
slope = g.grad(cost, w)
