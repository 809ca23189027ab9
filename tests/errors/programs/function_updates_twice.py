"""Two updates of one variable."""

import graphc as g

count = g.Variable(0, name="count")
step = g.function([], [], updates=[(count, count + 1), (count, count + 2)])
