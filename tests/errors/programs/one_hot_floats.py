"""Class numbers that are floats."""

import graphc as g

labels = g.placeholder(g.float32, ["batch"], name="labels")
y = g.one_hot(labels, 10)
