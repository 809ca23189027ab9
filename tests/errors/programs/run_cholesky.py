"""A matrix that is not positive definite."""

import graphc as g

m = g.placeholder(g.float64, [2, 2], name="m")
root = g.linalg.cholesky(m)
with g.Session() as s:
    s.run(root, {m: [[1.0, 2.0], [2.0, 1.0]]})
