"""A write to a tensor that is no variable."""

import graphc as g

x = g.placeholder(g.float32, [3], name="x")
update = g.assign(x, x + 1)
