"""Too few arrays for a prepared call."""

import graphc as g

x = g.placeholder(g.float32, [2], name="x")
y = g.placeholder(g.float32, [2], name="y")
call = g.Session().prepare(x + y, [x, y])
call([1.0, 2.0])
