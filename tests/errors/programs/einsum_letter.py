"""A letter of the result that no operand has."""

import graphc as g

a = g.placeholder(g.float32, [2, 3])
c = g.einsum("ij->ik", a)
