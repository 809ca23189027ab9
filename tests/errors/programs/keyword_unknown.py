"""An argument of another library."""

import graphc as g

x = g.placeholder(g.float32, [2, 3], name="x")
y = g.sum(x, dim=1)
