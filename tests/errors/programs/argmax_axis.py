"""An axis out of range."""

import graphc as g

x = g.placeholder(g.float32, [2, 3])
y = g.argmax(x, axis=-3)
