"""An index out of range in the run."""

import graphc as g

table = g.Variable(g.zeros([10, 4]), name="table")
ids = g.placeholder(g.int64, ["batch"], name="ids")
rows = g.take(table, ids, axis=0)
with g.Session() as s:
    s.run(rows, {ids: [3, 12]})
