"""A variable that starts from a placeholder."""

import graphc as g

x = g.placeholder(g.float32, [3], name="x")
w = g.Variable(x * 2, name="w")
with g.Session() as s:
    s.run(w + 1)
