"""A product whose inner sizes differ."""

import graphc as g

x = g.placeholder(g.float32, [32, 784], name="x")
w2 = g.Variable(g.zeros([800, 10]), name="w2")
logits = g.matmul(x, w2)
