"""Two open sizes that turn out different."""

import graphc as g

a = g.placeholder(g.float32, [None], name="a")
b = g.placeholder(g.float32, [None], name="b")
total = a + b
with g.Session() as s:
    s.run(total, {a: [1.0, 2.0], b: [1.0, 2.0, 3.0]})
