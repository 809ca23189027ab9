"""One letter for two sizes."""

import graphc as g

a = g.placeholder(g.float32, [2, 3])
b = g.placeholder(g.float32, [4, 5])
c = g.einsum("ij,jk->ik", a, b)
