"""Labels for another number of classes."""

import graphc as g

labels = g.placeholder(g.float32, ["batch", 9], name="labels")
logits = g.placeholder(g.float32, ["batch", 10], name="logits")
loss = g.nn.softmax_cross_entropy_with_logits(labels, logits)
