"""A Python loop over a batch."""

import graphc as g

x = g.placeholder(g.float32, ["batch", 3], name="x")
rows = [row.sum() for row in x]
