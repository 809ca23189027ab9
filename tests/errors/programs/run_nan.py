"""The first node that makes a NaN, where a check is asked for."""

import graphc as g

x = g.placeholder(g.float32, ["n"], name="x")
y = g.exp(g.log(x))
with g.Session(check="nan") as s:
    s.run(y, {x: [1.0, -1.0]})
