"""A new axis out of range."""

import graphc as g

x = g.placeholder(g.float32, [3])
y = g.expand_dims(x, axis=3)
