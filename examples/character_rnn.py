"""A character RNN: an LSTM learns to continue Shakespeare, one character at a time.

It reads 32 stretches of the text at once, 64 characters a step; variables carry the states from one
step to the next, while gradients end at 64 characters (truncated back-propagation through time). It
then writes by itself: `decode` draws each character from the scores of the one before. You see bits
a character, on the text and on a part of it that is not learnt, and a sample before and after.

    python character_rnn.py [TEXT]      another text, tinyshakespeare's whole file for one
"""

import sys
import time
from pathlib import Path

import numpy as np

import graphc as g

UNITS, BATCH, STEPS, EPOCHS, RATE = 128, 32, 64, 8, 0.01
HERE = Path(__file__).with_name("data") / "shakespeare.txt"  # see data/ORIGIN.md
text = Path(sys.argv[1] if len(sys.argv) > 1 else HERE).read_text(encoding="utf-8")
alphabet = sorted(set(text))
codes = np.array([alphabet.index(c) for c in text], np.int32)
learnt, unseen = np.split(codes, [len(codes) * 9 // 10])
count = len(alphabet)

kernel = g.Variable(g.init.glorot_uniform([count, 4 * UNITS]), name="kernel")
recurrent = g.Variable(g.init.orthogonal([UNITS, 4 * UNITS]), name="recurrent")
bias = g.Variable(g.init.zeros([4 * UNITS]), name="bias")
w = g.Variable(g.init.glorot_uniform([UNITS, count]), name="w")
b = g.Variable(g.init.zeros([count]), name="b")
states = [g.Variable(g.zeros([BATCH, UNITS]), trainable=False, name=name) for name in "hc"]


def bits(inputs, targets, start=None):
    """Mean bits a character (many to many), and the states at the end."""
    x = g.one_hot(inputs, count, dtype=g.float32)
    outputs, last = g.nn.lstm(x, kernel, recurrent, bias, start, forget_bias=1.0)
    losses = g.nn.sparse_softmax_cross_entropy_with_logits(targets, outputs @ w + b)
    return g.mean(losses) / np.log(2.0), last


def write(characters):
    """The codes of a text that starts after a line break, drawn one by one inside of one loop."""

    def step(code, state):
        x = g.one_hot(code, count, dtype=g.float32)
        hidden, cell = g.nn.lstm_cell(x, state, kernel, recurrent, bias, forget_bias=1.0)
        scores = (hidden @ w + b) * 1.3  # a little more certain than it is
        return g.random.categorical(scores), (hidden, cell)

    first = np.full(1, alphabet.index("\n"), np.int64)
    start = (g.zeros([1, UNITS]), g.zeros([1, UNITS]))
    drawn, _ = g.nn.decode(step, first, start, n_steps=characters)
    return drawn[0]


def streams(data):
    """The text as `BATCH` stretches, and their characters one further on."""
    length = (len(data) - 1) // BATCH
    ends = length * BATCH
    return data[:ends].reshape(BATCH, length), data[1 : ends + 1].reshape(BATCH, length)


inputs = g.placeholder(g.int32, ["batch", "time"], name="inputs")
targets = g.placeholder(g.int32, ["batch", "time"], name="targets")
loss, last = bits(inputs, targets, states)
carry = [g.assign(state, value) for state, value in zip(states, last, strict=True)]
train = g.optim.Adam(RATE, global_clip_norm=1.0).minimize(loss)
checked, _ = bits(inputs, targets)
length = g.placeholder(g.int64, [], name="length")
written = write(length)


def sample(session, characters=300):
    found = session.run(written, {length: characters})
    return "".join(alphabet[code] for code in found)


with g.Session(seed=1) as session:
    run = session.prepare([loss, carry, train], [inputs, targets])
    held = dict(zip((inputs, targets), streams(unseen), strict=True))
    x, y = streams(learnt)
    print("before:", repr(sample(session, 60)))
    began = time.perf_counter()
    for epoch in range(EPOCHS):
        session.initialize(states)  # the text begins again
        values = [
            run(x[:, at : at + STEPS], y[:, at : at + STEPS])[0]
            for at in range(0, x.shape[1] - STEPS, STEPS)
        ]
        if epoch % 2 == 0 or epoch == EPOCHS - 1:
            print(f"epoch {epoch:2d}   bits a character {np.mean(values):.3f}")
    print(f"{time.perf_counter() - began:.1f} s")
    print(f"bits a character, unseen text: {session.run(checked, held):.3f}")
    print(sample(session))
