"""The length of a batch before a run."""

import graphc as g

x = g.placeholder(g.float32, ["batch", 3], name="x")
n = len(x)
