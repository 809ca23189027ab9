"""An index that is a float."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
y = x[1.5]
