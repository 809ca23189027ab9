"""The examples that docs/design.md follows from a line of Python to machine code."""

import numpy as np

import graphc as g

x = g.placeholder("float32", ["n", 10], name="x")
images = g.placeholder("float32", ["n", 28, 28, 3], name="images")
w = g.Variable(g.init.glorot_uniform((10, 4)), name="w")
filters = g.Variable(g.init.glorot_uniform((3, 3, 3, 8)), name="filters")

exp = g.exp(x)
matmul = g.nn.relu(x @ w + 1.0)
conv2d = g.nn.conv2d(images, filters, padding="SAME")
softmax = g.nn.softmax(x)
train = g.optim.SGD(0.1).minimize(g.mean((x @ w) ** 2))

steps = g.placeholder("float32", ["n", 4], name="steps")
v = g.Variable(g.init.glorot_uniform((4, 4)), name="v")
states = g.scan(lambda x_t, h: g.tanh(h @ v + x_t), steps, g.zeros([4]), name="states")
back = g.gradients(g.sum(states**2), v)
a = g.placeholder("float32", [], name="a")
root = g.ifelse(a > 0.0, lambda: g.sqrt(a), lambda: g.sqrt(-a))

if __name__ == "__main__":
    with g.Session(seed=0) as s:
        rows, pictures = np.ones((5, 10), "float32"), np.ones((5, 28, 28, 3), "float32")
        for fetch in (exp, matmul, conv2d, softmax, train):
            s.run(fetch, {x: rows, images: pictures})
        s.run([states, back, root], {steps: np.ones((6, 4)), a: -4.0})
        print(s.compile_report())
