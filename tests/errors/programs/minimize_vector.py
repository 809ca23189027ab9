"""A loss for each example."""

import graphc as g

w = g.Variable(g.zeros([3]), name="w")
x = g.placeholder(g.float32, ["batch", 3], name="x")
train = g.optim.Adam(0.1).minimize((x * w).sum(axis=1))
