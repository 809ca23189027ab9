"""An axis out of range."""

import graphc as g

x = g.placeholder(g.float32, ["batch", 3], name="x")
total = x.sum(axis=2)
