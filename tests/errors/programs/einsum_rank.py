"""Letters for another rank."""

import graphc as g

a = g.placeholder(g.float32, [2, 3, 4])
c = g.einsum("ij->i", a)
