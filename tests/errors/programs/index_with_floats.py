"""Row numbers that are floats."""

import graphc as g

table = g.Variable(g.zeros([100, 8]), name="table")
ids = g.placeholder(g.float32, ["batch"], name="ids")
rows = g.nn.embedding_lookup(table, ids)
