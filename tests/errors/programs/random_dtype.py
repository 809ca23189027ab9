"""Normal numbers that are integers."""

import graphc as g

noise = g.random.normal([3], dtype=g.int32)
