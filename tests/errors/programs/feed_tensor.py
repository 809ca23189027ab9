"""A tensor fed for a tensor."""

import graphc as g

x = g.placeholder(g.float32, [2], name="x")
with g.Session() as s:
    s.run(x + 1, {x: g.constant([1.0, 2.0])})
