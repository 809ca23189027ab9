"""A shape where the dtype belongs."""

import graphc as g

x = g.placeholder([None, 3])
