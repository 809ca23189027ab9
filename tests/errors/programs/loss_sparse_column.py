"""A column of class numbers."""

import graphc as g

labels = g.placeholder(g.int64, ["batch", 1], name="labels")
logits = g.placeholder(g.float32, ["batch", 10], name="logits")
loss = g.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
