"""A rate that is no probability."""

import graphc as g

x = g.placeholder(g.float32, [3], name="x")
y = g.nn.dropout(x, rate=50)
