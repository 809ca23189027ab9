"""A cost made of class numbers."""

import graphc as g

w = g.Variable(g.zeros([3, 10]), name="w")
x = g.placeholder(g.float32, ["batch", 3], name="x")
predicted = g.argmax(x @ w, axis=1)
cost = g.cast(predicted, g.float32).sum()
slope = g.grad(cost, w)
