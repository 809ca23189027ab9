"""Two feeds that were forgotten."""

import graphc as g

x = g.placeholder(g.float32, ["batch", 3], name="x")
w = g.Variable(g.zeros([3, 2]), name="w")
keep = g.placeholder(g.float32, [], name="keep")
labels = g.placeholder(g.int64, ["batch"], name="labels")
logits = (x @ w) * keep
loss = g.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
with g.Session() as s:
    s.run(loss, {keep: 1.0})
