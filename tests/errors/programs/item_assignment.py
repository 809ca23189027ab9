"""An assignment to an element."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
x[0] = 1.0
