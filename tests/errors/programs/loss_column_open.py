"""Predictions (n, 1) minus targets (n,), whose sizes were left open."""

import graphc as g

x = g.placeholder(g.float32, [None, 3], name="x")
y = g.placeholder(g.float32, [None], name="y")
w = g.Variable(g.zeros([3, 1]), name="w")
train = g.optim.SGD(0.1).minimize(g.mean(g.square(g.matmul(x, w) - y)))
