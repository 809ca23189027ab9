"""An index beyond a known size."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
y = x[:, 4]
