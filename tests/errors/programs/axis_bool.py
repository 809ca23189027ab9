"""An axis that is a bool: keepdims in the wrong place."""

import graphc as g

x = g.placeholder(g.float32, [2, 3])
y = g.max(x, True)
