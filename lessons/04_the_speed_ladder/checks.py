"""Lesson 04, the speed ladder. Checked are the result, how it is written, and that it is fast.

An answer is too slow where it is not even five times as fast as plain Python loops; a right one is
a hundred times as fast, or more. Mistakes are plain Python: they compute what a wrong compiled
function would.
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
import textwrap
import time
import types

import numpy as np

from ..exercise import Exercise


def pairs(rng, *sizes):
    """Cases: float32 matrices (M, K) and (K, C)."""
    return [
        (
            f"a ({m}, {k}), b ({k}, {c})",
            (rng.normal(size=(m, k)).astype("f"), rng.normal(size=(k, c)).astype("f")),
        )
        for m, k, c in sizes
    ]


def last_product(a, b):
    """`c[i, j] = …` where `+=` belongs: only the last k stays."""
    return np.outer(a[:, -1], b[-1])


def without_table(a, b):
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for k in range(a.shape[1]):
        c += a[:, k] * b[k]
    return c


MATMUL_MISTAKES = {
    "only the last product of each sum remains: add them up with +=": last_product,
    "the last k is missing: range(K) ends at K − 1 by itself": lambda a, b: a[:, :-1] @ b[:-1],
    "this is the product with b transposed: b[k, j], not b[j, k]": lambda a, b: (
        a @ b.T if b.shape[0] == b.shape[1] else _index_error()
    ),
    "this is the elementwise product, without a sum": lambda a, b: a * b,
    "a is read by rows and b by columns here; the table is column k of a times row k of b": (
        lambda a, b: sum(a[k, :, None] * b[:, k] for k in range(a.shape[1]))
    ),
    "the column of a needs a second axis, a[:, k, None]: without it the "
    "product is not a table": without_table,
    "this is the transpose of the result: c[i, j], i from a and j from b": lambda a, b: (a @ b).T,
}


def _index_error():
    raise IndexError("index is out of bounds")


# ---- how it is written


def written(answer):
    """The syntax tree of a function; None where its source is not known."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(getattr(answer, "py_func", answer))))
    except (OSError, TypeError, SyntaxError):
        return None


PRODUCTS = {"dot", "einsum", "inner", "matmul", "tensordot", "vdot"}


def multiplies(tree):
    """Whether a matrix product of NumPy is called."""
    return any(
        isinstance(getattr(node, "op", None), ast.MatMult)
        or (isinstance(node, ast.Attribute) and node.attr in PRODUCTS)
        for node in ast.walk(tree)
    )


def depth(node):
    """How many loops are nested."""
    here = len(getattr(node, "generators", ())) + isinstance(node, (ast.For, ast.While))
    return here + max(map(depth, ast.iter_child_nodes(node)), default=0)


def plain_loops(a, b):
    """The matrix product in Python loops, as the measure of what is slow."""
    c = np.zeros((len(a), b.shape[1]), a.dtype)
    for i in range(len(a)):
        for j in range(b.shape[1]):
            for k in range(len(b)):
                c[i, j] += a[i, k] * b[k, j]
    return c


def plain_gelu(x):
    """GELU in a Python loop."""
    y = np.empty_like(x)
    for i, v in enumerate(x):
        y[i] = 0.5 * v * (1 + math.tanh(ROOT * (v + 0.044715 * v * v * v)))
    return y


def speedup(answer, slow, *arrays, rounds=5):
    """How many times as fast as `slow` an answer is: the best of some calls of each, in turns."""
    times = {answer: math.inf, slow: math.inf}
    for _ in range(rounds):
        for f in times:
            start = time.perf_counter()
            f(*arrays)
            times[f] = min(times[f], time.perf_counter() - start)
    return times[slow] / times[answer]


SQUARE = np.linspace(-1, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
MARGIN = 5


def loops(answer):
    tree = written(answer)
    if tree and multiplies(tree):
        return "NumPy multiplies the matrices here: write the three loops yourself"
    if tree and depth(tree) < 3:
        return f"there should be three nested loops, and there are {depth(tree)}"
    return None


def tables(answer):
    tree = written(answer)
    if tree and multiplies(tree):
        return "NumPy multiplies the matrices here: add up the tables in a loop over k"
    if speedup(answer, plain_loops, SQUARE, SQUARE) < MARGIN:
        return (
            "it takes about as long as three Python loops: one loop, over k, and in it a whole "
            "table at once"
        )
    return None


def compiled(answer, slow, *arrays):
    if isinstance(answer, types.FunctionType):
        return "it is not compiled: put @njit above its def"
    if speedup(answer, slow, *arrays) < MARGIN:
        return "it is as slow as Python, as if it were not compiled: use @njit, without object mode"
    return None


def innermost(node, variable=None):
    """The innermost loop and its depth: (variable, loop, depth)."""
    best = (None, None, 0)
    for child in ast.iter_child_nodes(node):
        name, loop, depth = innermost(child)
        if depth > best[2]:
            best = name, loop, depth
    if isinstance(node, ast.For) and isinstance(node.target, ast.Name):
        name, loop, depth = best
        return (name, loop, depth + 1) if loop else (node.target.id, node, 1)
    return best


def down_columns(loop, variable):
    """What an innermost loop reads down a column: its variable is the first index."""
    for node in ast.walk(loop):
        match node:
            case ast.Subscript(slice=ast.Tuple([ast.Name(name), _])) if name == variable:
                return ast.unparse(node)
    return None


def along_rows(answer):
    tree = written(answer)
    if tree and multiplies(tree):
        return "NumPy multiplies the matrices here: write the three loops yourself"
    if tree:
        variable, loop, _ = innermost(tree)
        if loop and (column := down_columns(loop, variable)):
            return (
                f"the innermost loop runs over {variable}, and so down a column of memory in "
                f"`{column}`: it should run over the last index, along rows"
            )
    return compiled(answer, plain_loops, SQUARE, SQUARE)


def with_lambert(answer):
    """Compiled, and without a function call for each number."""
    tree = written(answer)
    names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)} if tree else set()
    if fault := compiled(answer, plain_gelu, SQUARE.ravel()):
        return fault
    if called := names & {"tanh", "exp", "expm1", "erf"}:
        return (
            f"`{called.pop()}` is a function call for every number, which prevents SIMD: use "
            "tanh_lambert"
        )
    return None


def matmul_exercise(name, form):
    return Exercise(
        name,
        form=form,
        reference=np.matmul,
        cases=lambda rng: pairs(rng, (3, 3, 3), (2, 5, 3), (4, 1, 2)),
        mistakes=MATMUL_MISTAKES,
    )


ROOT = math.sqrt(2 / math.pi)


def gelu_of(inner=lambda x: x + 0.044715 * x**3, outer=lambda x, t: 0.5 * x * (1 + t)):
    """GELU of which the inner or the outer formula can be wrong; float32."""
    return lambda x: outer(x, np.tanh(ROOT * inner(x.astype(float)))).astype(x.dtype)


gelu_fast = Exercise(
    "04.gelu_fast",
    reference=functools.partial(gelu_of()),
    form=with_lambert,
    rtol=1e-3,
    cases=lambda rng: [
        ("x = -1, 0, 1, 2", (np.array([-1, 0, 1, 2], np.float32),)),
        ("500 numbers from -10 to 10", (np.linspace(-10, 10, 500, dtype=np.float32),)),
    ],
    mistakes={
        "the cube is a square: 0.044715 x³": gelu_of(lambda x: x + 0.044715 * x**2),
        "the ½ in front is missing": gelu_of(outer=lambda x, t: x * (1 + t)),
        "the 1 + is missing: ½ x (1 + tanh u)": gelu_of(outer=lambda x, t: 0.5 * x * t),
        "the x in front is missing: ½ x (1 + tanh u)": gelu_of(outer=lambda x, t: 0.5 * (1 + t)),
        "the root is missing: u = √(2/π) (x + 0.044715 x³)": gelu_of(
            lambda x: (x + 0.044715 * x**3) / ROOT
        ),
        "this is tanh of x itself: u contains a cube as well": gelu_of(lambda x: x / ROOT),
    },
)

EXERCISES = [
    matmul_exercise("04.matmul_loops", loops),
    matmul_exercise("04.matmul_outer", tables),
    matmul_exercise("04.matmul_ikj", along_rows),
    gelu_fast,
]
