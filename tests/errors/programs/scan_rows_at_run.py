"""More steps than a fed sequence has rows."""

import graphc as g

x = g.placeholder("float32", [None], name="x")
k = g.placeholder("int64", [], name="k")
total = g.scan(lambda row, total: total + row, x, 0.0, n_steps=k + 1)
g.Session().run(total, {x: [1.0, 2.0, 3.0], k: 4})
