"""An optimiser instead of its update."""

import graphc as g

train = g.optim.SGD(0.1)
with g.Session() as s:
    s.run(train)
