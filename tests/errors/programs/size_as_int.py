"""A size of the batch as a Python int."""

import graphc as g

x = g.placeholder(g.float32, ["batch", 3], name="x")
n = int(x.shape[0])
