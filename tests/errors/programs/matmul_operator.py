"""The same through Python's operator, with a named size."""

import graphc as g

with g.name_scope("decoder"):
    h = g.placeholder(g.float32, ["batch", 64], name="h")
w = g.Variable(g.zeros([32, 10]), name="w")
logits = h @ w
