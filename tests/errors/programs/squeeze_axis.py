"""An axis that has more than one element."""

import graphc as g

x = g.placeholder(g.float32, [1, 3])
y = g.squeeze(x, axis=1)
