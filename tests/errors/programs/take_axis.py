"""An axis that is not there."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
y = g.take(x, [0, 1], axis=2)
