"""A number too large for its dtype."""

import graphc as g

c = g.constant([1, 2, 300], dtype=g.uint8)
