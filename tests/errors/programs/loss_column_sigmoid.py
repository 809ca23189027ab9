"""A column of logits beside a vector of labels."""

import graphc as g

labels = g.placeholder(g.float32, ["batch"], name="labels")
logits = g.placeholder(g.float32, ["batch", 1], name="logits")
loss = g.nn.sigmoid_cross_entropy_with_logits(labels, logits)
