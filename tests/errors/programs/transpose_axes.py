"""Axes that leave one out."""

import graphc as g

x = g.placeholder(g.float32, [2, 3, 4])
y = g.transpose(x, [0, 2, 2])
