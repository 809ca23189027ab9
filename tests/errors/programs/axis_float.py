"""An axis that is a float."""

import graphc as g

x = g.placeholder(g.float32, [2, 3])
y = g.nn.softmax(x, axis=1.0)
