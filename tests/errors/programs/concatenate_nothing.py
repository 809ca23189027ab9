"""Nothing to concatenate."""

import graphc as g

c = g.concatenate([])
