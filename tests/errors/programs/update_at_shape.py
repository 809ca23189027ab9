"""A value that does not fit where it is to be put."""

import graphc as g

x = g.placeholder(g.float32, [5, 3])
y = x.at[0].set(g.zeros([4]))
