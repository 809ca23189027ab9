"""Class numbers that are floats."""

import graphc as g

labels = g.placeholder(g.float32, ["batch"], name="labels")
logits = g.placeholder(g.float32, ["batch", 10], name="logits")
loss = g.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
