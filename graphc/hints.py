"""Names that TensorFlow 1, Keras and Theano have and graphc has not: what to write instead.

A name that is looked up and missing comes in; the text of its AttributeError goes out. The names
stay missing: `hasattr`, `dir` and a star import see nothing of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

_INITIALISED = (
    "variables initialise themselves on first use in a session; Session.initialize() does it again"
)
_NO_GRAPH = "there is no default graph: a graph is what its fetches reach, see g.Graph"
_OPTIMISERS = "the optimisers are g.optim.SGD, g.optim.Adam, g.optim.RMSProp and others"
_FOLLOWS_DATA = "the size of its result would depend on data; use g.where or a mask"

_RENAMED = {
    "batch_matmul": "matmul", "clip_by_value": "clip", "complement": "invert",
    "diag_part": "diagonal", "dimshuffle": "transpose", "div": "divide", "eq": "equal",
    "floordiv": "floor_divide", "ge": "greater_equal", "gt": "greater", "int_div": "floor_divide",
    "is_finite": "isfinite", "is_inf": "isinf", "is_nan": "isnan", "le": "less_equal",
    "log_softmax": "nn.log_softmax", "lt": "less", "matrix_determinant": "linalg.det",
    "matrix_diag": "diag", "matrix_inverse": "linalg.inv", "matrix_solve": "linalg.solve",
    "mul": "multiply", "neg": "negative", "neq": "not_equal", "norm": "linalg.norm",
    "pack": "stack", "Print": "print", "reduce_all": "all", "reduce_any": "any",
    "reduce_logsumexp": "logsumexp", "reduce_max": "max", "reduce_mean": "mean",
    "reduce_min": "min", "reduce_prod": "prod", "reduce_sum": "sum", "relu": "nn.relu",
    "reverse": "flip", "reverse_v2": "flip", "softmax": "nn.softmax", "sqr": "square",
    "sub": "subtract", "truediv": "divide", "unpack": "unstack", "global_norm": "optim.global_norm",
    "clip_by_norm": "optim.clip_by_norm", "clip_by_global_norm": "optim.clip_by_global_norm",
    "random_normal": "random.normal", "random_uniform": "random.uniform",
    "random_shuffle": "random.shuffle", "truncated_normal": "random.truncated_normal",
    "multinomial": "random.categorical", "cholesky": "linalg.cholesky", "svd": "linalg.svd",
    "self_adjoint_eig": "linalg.eigh", "qr": "linalg.qr", "inv": "linalg.inv",
    "det": "linalg.det", "solve": "linalg.solve", "conv2d": "nn.conv2d",
    "disconnected_grad": "stop_gradient", "zero_grad": "stop_gradient", "Rop": "jvp",
    "recompute_grad": "checkpoint", "cond": "ifelse", "map_fn": "scan", "map": "scan",
    "foldl": "scan", "foldr": "scan",
    "verify_grad": "check_gradient", "range": "arange",
}  # fmt: skip
"""Where the same function, or the one to use, stands under another name."""

MODULE: Mapping[str, str] = {
    **{old: f"it is g.{new} here" for old, new in _RENAMED.items()},
    "global_variables_initializer": _INITIALISED,
    "initialize_all_variables": _INITIALISED,
    "initialize_variables": _INITIALISED,
    "local_variables_initializer": _INITIALISED,
    "variables_initializer": _INITIALISED,
    "case": "nest g.ifelse",
    "TensorArray": "g.scan stacks what its steps return",
    "get_default_graph": _NO_GRAPH,
    "reset_default_graph": _NO_GRAPH + ", so there is nothing to reset",
    "global_variables": "a session knows the variables that it holds, an update its own",
    "trainable_variables": "an optimiser's minimize finds those that the loss depends on",
    "get_collection": _NO_GRAPH,
    "add_to_collection": _NO_GRAPH + "; keep a list of your own",
    "get_variable": 'it is g.Variable(g.init.glorot_uniform(shape), name="w"); to share a '
    "variable, pass it on",
    "variable_scope": "g.name_scope labels what is built inside; to share a variable, pass it on",
    "placeholder_with_default": "g.constant will do: feed_dict may feed any tensor",
    "InteractiveSession": "inside `with g.Session():`, and without any session too, x.eval() works",
    "ConfigProto": "g.Session(device=..., threads=..., seed=...) takes what it configured",
    "GPUOptions": "g.Session(device=..., threads=..., seed=...) takes what it configured",
    "device": "a session chooses the device: g.Session(device=...), see g.devices()",
    "control_dependencies": "a run reads old values and all writes land at its end: fetch updates "
    "together, or in g.group; an update's .value is the new value",
    "no_op": "it is g.group() here",
    "set_random_seed": "the seed belongs to the session: g.Session(seed=0)",
    "train": _OPTIMISERS + "; Session.save and Session.restore stand for Saver",
    "keras": "g.nn has layers' functions, g.init initial values; " + _OPTIMISERS,
    "layers": "g.nn has layers' functions; make their variables with g.Variable and g.init",
    "losses": "losses stand in g.nn; g.mean makes one number of a value a row",
    "initializers": "they are functions in g.init",
    "summary": "fetch the values and log them; g.draw shows the graph",
    "app": "a program is plain Python here",
    "to_float": 'it is g.cast(x, "float32") here',
    "to_double": 'it is g.cast(x, "float64") here',
    "to_int32": 'it is g.cast(x, "int32") here',
    "to_int64": 'it is g.cast(x, "int64") here',
    "saturate_cast": "g.clip, then g.cast",
    "convert_to_tensor": "builders take arrays, numbers and lists; g.constant makes a tensor",
    "squared_difference": "it is g.square(x - y) here",
    "vstack": "it is g.concatenate(tensors, axis=0) here, of vectors g.stack(tensors)",
    "hstack": "it is g.concatenate(tensors, axis=1) here, of vectors axis=0",
    "permute_dims": "it is g.transpose here",
    "boolean_mask": _FOLLOWS_DATA,
    "nonzero": _FOLLOWS_DATA,
    "unique": _FOLLOWS_DATA,
    "float": "use g.float32, which is what Python floats make",
    "int": "use g.int64, which is what Python ints make",
    "shared": "it is g.Variable(value) here; Session.get and Session.set read and write it",
    "tensor": "Theano's theano.tensor is g itself: g.exp, g.dot, g.mean",
    "add_n": "it is g.sum(g.stack(tensors), axis=0) here; x + y + z does as well",
    "vector": 'it is g.placeholder("float32", [None]) here',
    "matrix": 'it is g.placeholder("float32", [None, None]) here',
    "fscalar": 'it is g.placeholder("float32", []) here',
    "fvector": 'it is g.placeholder("float32", [None]) here',
    "fmatrix": 'it is g.placeholder("float32", [None, None]) here',
    "dscalar": 'it is g.placeholder("float64", []) here',
    "dvector": 'it is g.placeholder("float64", [None]) here',
    "dmatrix": 'it is g.placeholder("float64", [None, None]) here',
    "iscalar": 'it is g.placeholder("int32", []) here',
    "ivector": 'it is g.placeholder("int32", [None]) here',
    "lscalar": 'it is g.placeholder("int64", []) here',
    "lvector": 'it is g.placeholder("int64", [None]) here',
    "tensor3": 'it is g.placeholder("float32", [None, None, None]) here',
    "tensor4": 'it is g.placeholder("float32", [None] * 4) here',
}
"""For `g.name`."""

NN: Mapping[str, str] = {
    "max_pool": "it is g.nn.max_pool2d(x, size, strides, padding) here",
    "avg_pool": "it is g.nn.avg_pool2d(x, size, strides, padding) here",
    "bias_add": "x + b broadcasts",
    "xw_plus_b": "write x @ w + b",
    "tanh": "it is g.tanh here",
    "silu": "it is g.nn.swish here",
    "relu6": "it is g.clip(x, 0, 6) here",
    "batch_normalization": "it is g.nn.batch_norm here",
    "fused_batch_norm": "it is g.nn.batch_norm here",
    "l2_loss": "it is g.sum(g.square(x)) / 2 here",
    "top_k": "it is g.top_k here",
    "in_top_k": "compare with the indices of g.top_k",
    "softmax_cross_entropy_with_logits_v2": "it is g.nn.softmax_cross_entropy_with_logits here",
    "ultra_fast_sigmoid": "it is g.nn.hard_sigmoid here",
    "dynamic_rnn": "it is g.nn.rnn, g.nn.lstm or g.nn.gru here: functions of x and weights",
    "bidirectional_dynamic_rnn": "it is g.nn.bidirectional here",
    "raw_rnn": "it is g.nn.decode or g.scan here",
}
"""For `g.nn.name`."""

OPTIM: Mapping[str, str] = {
    "GradientDescent": "it is g.optim.SGD here",
    "Momentum": "it is g.optim.SGD(learning_rate, momentum=0.9) here",
    **{
        f"{old}Optimizer": f"it is g.optim.{new} here"
        for old, new in {
            "GradientDescent": "SGD", "Adam": "Adam", "RMSProp": "RMSProp", "Adagrad": "AdaGrad",
            "Adadelta": "AdaDelta", "Momentum": "SGD(learning_rate, momentum=0.9)",
        }.items()
    },
    "Adagrad": "it is g.optim.AdaGrad here",
    "Adadelta": "it is g.optim.AdaDelta here",
    "Adamax": "it is g.optim.AdaMax here",
    "RMSprop": "it is g.optim.RMSProp here",
    "Rprop": "it is g.optim.RProp here",
    "Saver": "it is Session.save and Session.restore here",
}  # fmt: skip
"""For `g.optim.name`."""

TENSOR: Mapping[str, str] = {
    "get_shape": "x.shape is what is known now, g.shape(x) the sizes as a tensor",
    "set_shape": "declare the shape where the placeholder is made, or use g.reshape",
    "size": "it is g.size(x) here",
    "op": "it is x.node here",
    "owner": "it is x.node here",
    "graph": _NO_GRAPH,
    "value": "a session has it: Session.run(x) or x.eval()",
    "numpy": "a session has the values: Session.run(x) or x.eval()",
    "item": "a session has the values: Session.run(x) or x.eval()",
    "tolist": "a session has the values: Session.run(x) or x.eval()",
    "assign": "g.assign(x, value) makes the update of a variable; fetch it to make it happen",
    "assign_add": "g.assign_add(x, value) makes the update of a variable; fetch it",
    "assign_sub": "g.assign_sub(x, value) makes the update of a variable; fetch it",
    "load": "it is Session.set(variable, value) here",
    "set_value": "it is Session.set(variable, value) here",
    "get_value": "it is Session.get(variable) here",
    "read_value": "a variable is a tensor: use it as it is",
    "initialized_value": "a variable is a tensor: use it as it is",
    "initializer": _INITIALISED,
    "dimshuffle": "use g.transpose, and x[:, None] for a new axis",
    "nonzero": _FOLLOWS_DATA,
    **{
        name: f"it is g.{name}(x) here"
        for name in ("argsort", "diagonal", "exp", "log", "round", "sort", "sqrt", "trace")
    },
    "norm": "it is g.linalg.norm(x) here",
}
"""For attributes of tensors and variables."""

SESSION: Mapping[str, str] = {
    "as_default": "`with session:` makes it the one that x.eval() uses, and closes it at the end",
    "make_callable": "it is Session.prepare(fetches, feeds) here",
    "partial_run": "fetch what is needed, and feed it to the next run",
    "list_devices": "it is g.devices() here",
    "graph": _NO_GRAPH,
}
"""For attributes of sessions."""


def missing(holder: Any, label: str, name: str, hints: Mapping[str, str]) -> AttributeError:
    """The error for a name that `holder` has not; Python adds its own guess where no hint is."""
    text = f"{label} has no attribute {name!r}"
    if name in hints:
        return AttributeError(f"{text}: {hints[name]}", name=name)
    return AttributeError(text, name=name, obj=holder)


def of_module(module: str, hints: Mapping[str, str]) -> Callable[[str], NoReturn]:
    """A module's `__getattr__`."""

    def absent(name: str) -> NoReturn:
        raise missing(sys.modules[module], f"module {module!r}", name, hints)

    return absent
