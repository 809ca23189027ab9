"""An accuracy as a cost."""

import graphc as g

w = g.Variable(g.zeros([3]), name="w")
x = g.placeholder(g.float32, [3], name="x")
accuracy = g.mean(g.cast(x * w > 0, g.float32))
slope = g.grad(accuracy, w)
