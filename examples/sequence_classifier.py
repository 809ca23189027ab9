"""A classifier of sequences of different lengths: does a word belong to a grammar?

The embedded Reber grammar (S. Hochreiter, J. Schmidhuber, 1997): the symbol before the last must be
the second one again, whatever lies between, so the state has to keep it for the whole word. Each
batch is padded to its own longest word; `lengths` says what is real. You see the loss, then the
accuracy on words that were not seen, and on much longer ones.
"""

import numpy as np

import graphc as g

SYMBOLS, UNITS, BATCH, STEPS = "BTSXPVE", 24, 64, 300
EDGES = [  # of the inner grammar: from each node, the symbols and where they lead
    [("T", 1), ("P", 2)], [("S", 1), ("X", 3)], [("T", 2), ("V", 4)], [("X", 2), ("S", 5)],
    [("P", 3), ("V", 5)],
]  # fmt: skip


def draw(rng, least):
    """A word of at least that length, its symbols as numbers, and whether the grammar has it."""
    while True:
        node, inner = 0, "B"
        while node < 5:
            symbol, node = EDGES[node][rng.integers(2)]
            inner += symbol
        if len(inner) >= least:
            break
    outer = "TP"[rng.integers(2)]
    good = rng.random() < 0.5
    again = outer if good else "TP"["PT".index(outer)]
    word = f"B{outer}{inner}E{again}E"
    return [SYMBOLS.index(symbol) for symbol in word], good


def batch(rng, least=0, size=BATCH):
    """Words padded with zeros, their lengths, and 1 for a good word."""
    words, good = zip(*(draw(rng, least) for _ in range(size)), strict=True)
    lengths = np.array([len(word) for word in words])
    padded = np.zeros((size, lengths.max()), np.int32)
    for row, word in zip(padded, words, strict=True):
        row[: len(word)] = word
    return padded, lengths, np.array(good, np.float32)


symbols = g.placeholder(g.int32, ["batch", "time"], name="symbols")
lengths = g.placeholder(g.int64, ["batch"], name="lengths")
good = g.placeholder(g.float32, ["batch"], name="good")

kernel = g.Variable(g.init.glorot_uniform([len(SYMBOLS), 4 * UNITS]), name="kernel")
recurrent = g.Variable(g.init.glorot_uniform([UNITS, 4 * UNITS]), name="recurrent")
bias = g.Variable(g.init.zeros([4 * UNITS]), name="bias")
w = g.Variable(g.init.glorot_uniform([UNITS, 1]), name="w")

x = g.one_hot(symbols, len(SYMBOLS), dtype=g.float32)
_, (hidden, _) = g.nn.lstm(x, kernel, recurrent, bias, lengths=lengths, forget_bias=1.0)
logits = (hidden @ w)[:, 0]  # many to one: the state after each word's own last symbol
loss = g.mean(g.nn.sigmoid_cross_entropy_with_logits(good, logits))
accuracy = g.mean(g.cast(g.equal(logits > 0, good > 0.5), g.float32))
train = g.optim.Adam(0.01, global_clip_norm=1.0).minimize(loss)

with g.Session(seed=0) as session:
    run = session.prepare([loss, train], [symbols, lengths, good])
    rng = np.random.default_rng(0)
    for step in range(STEPS + 1):
        value, _ = run(*batch(rng))
        if step % 50 == 0:
            print(f"step {step:3d}   loss {value:.4f}")
    for name, least in (("new words", 0), ("words of more than 20 symbols", 17)):
        words, counts, truth = batch(np.random.default_rng(1), least, 500)
        share = session.run(accuracy, {symbols: words, lengths: counts, good: truth})
        print(f"accuracy on {name}, {counts.min()} to {counts.max()} symbols: {share:.3f}")
