"""A matrix that has no inverse."""

import graphc as g

m = g.placeholder(g.float64, [2, 2], name="m")
inverse = g.linalg.inv(m)
with g.Session() as s:
    s.run(inverse, {m: [[1.0, 2.0], [2.0, 4.0]]})
