"""A difference of truth values."""

import graphc as g

a = g.placeholder(g.bool_, [3])
b = g.placeholder(g.bool_, [3])
c = a - b
