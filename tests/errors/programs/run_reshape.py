"""A reshape that does not come out even in the run."""

import graphc as g

x = g.placeholder(g.float32, ["n"], name="x")
pairs = g.reshape(x, [-1, 2])
with g.Session() as s:
    s.run(pairs, {x: [1.0, 2.0, 3.0]})
