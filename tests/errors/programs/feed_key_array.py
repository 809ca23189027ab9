"""A feed whose key is a number."""

import graphc as g

x = g.placeholder(g.float32, ["batch"], name="x")
with g.Session() as s:
    s.run(x + 1, {3: [1.0]})
