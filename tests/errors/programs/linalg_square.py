"""An inverse of a matrix that is not square."""

import graphc as g

m = g.placeholder(g.float64, [2, 3], name="m")
inverse = g.linalg.inv(m)
