"""Too few values for a shape."""

import graphc as g

c = g.constant([1.0, 2.0, 3.0], shape=[2, 2])
