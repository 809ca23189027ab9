"""Widths for another rank."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
y = g.pad(x, [[1, 1], [0, 0], [2, 2]])
