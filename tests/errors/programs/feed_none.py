"""None fed."""

import graphc as g

x = g.placeholder(g.float32, None, name="x")
with g.Session() as s:
    s.run(x + 1, {x: None})
