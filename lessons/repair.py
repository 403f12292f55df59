"""One small change to a wrong answer that makes it right, and so what is wrong with it, and where.

A teacher who reads a wrong answer looks for the one thing to change: an operator, an axis, a sign,
a name, the order of two lines. This does the same by trial: it changes one thing in the student's
code, runs all cases of the exercise, and if they pass, says which line it was and what about it.
The idea is that of Singh, Gulwani & Solar-Lezama 2013, arXiv:1204.1751.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import itertools
import textwrap
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

from .exercise import Answer, Outcome, Trials
from .limits import TooLong, time_limit

SECONDS = 2.0  # of processor time to look for a change
LONGEST = 60  # lines of an answer that is looked at
# A changed call of one of these could do harm.
UNTOUCHED = {"open", "os", "shutil", "subprocess", "sys", "exec", "eval", "input", "Path"}

Change = tuple[ast.AST, str]  # what to put in a place, and what that says of the place


def found(trials: Trials, answer: Answer) -> str | None:
    """What one change to the answer makes it right; None if none does, or the code is not known."""
    plain = getattr(answer, "py_func", answer)
    if not isinstance(plain, types.FunctionType) or plain.__code__.co_freevars:
        return None
    try:
        source = textwrap.dedent(inspect.getsource(plain))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError):
        return None
    mentioned = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    if len(tree.body) != 1 or source.count("\n") > LONGEST or mentioned & UNTOUCHED:
        return None
    match tree.body[0]:
        case ast.FunctionDef(name=name) as function:
            function.decorator_list = []
        case ast.Assign(targets=[ast.Name(name)], value=ast.Lambda()):
            pass
        case _:
            return None
    lines = source.splitlines()
    end = time.process_time() + SECONDS
    for number, words in changes(tree, lines):
        if time.process_time() > end:
            return None
        space = dict(plain.__globals__)
        try:
            exec(compile(tree, "<a change>", "exec"), space)
        except Exception:
            continue
        if passes(trials, space[name]):
            line = lines[number - 1].strip()
            return f"in the line `{line if len(line) <= 90 else line[:89] + '…'}` {words}"
    return None


def passes(trials: Trials, answer: Answer) -> bool:
    """Whether an answer is right in all cases; the one that failed first is tried first."""
    order = sorted(range(len(trials.cases)), key=lambda i: i != trials.first)
    try:
        with time_limit(0.5), contextlib.redirect_stdout(io.StringIO()):
            for i in order:
                outcome = Outcome(trials.exercise, answer, trials.cases[i][1])
                if outcome.fault(trials.wants[i]):
                    return False
    except (Exception, TooLong):  # a change may make anything of the answer
        return False
    return True


# ---- the changes


def changes(tree: ast.Module, lines: list[str]) -> Iterator[tuple[int, str]]:
    """Make one change after the other in the tree, and undo it when the next is asked for.

    Yields the number of the line, and what to say of it.
    """
    places = [
        (parent, field, index, child)
        for parent in ast.walk(tree)
        for field, value in ast.iter_fields(parent)
        for index, child in (enumerate(value) if isinstance(value, list) else [(None, value)])
        if isinstance(child, ast.AST) and hasattr(child, "lineno")
    ]
    names = _names(tree)
    kinds: tuple[Callable[..., Iterator[Change]] | None, ...] = (
        *(_operators, _keywords, _transposes, _constants, _comparisons, _orders, _calls),
        None,  # here the statements
        lambda node, parent, field: _other_names(node, names),
        lambda node, parent, field: _factors(node, parent, field, names),
    )
    for kind in kinds:
        if kind is None:
            yield from _statements(tree)
            continue
        for parent, field, index, node in places:
            for new, words in kind(node, parent, field):
                ast.fix_missing_locations(ast.copy_location(new, node))
                _put(parent, field, index, new)
                yield node.lineno, words
                _put(parent, field, index, node)
    yield from _everywhere(tree)


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _names(tree: ast.Module) -> list[str]:
    """The arguments and the local names of a function."""
    arguments = [n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)]
    stored = [
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    ]
    return list(dict.fromkeys(arguments + stored))


def text(node: ast.AST) -> str:
    words = ast.unparse(node)
    return f"`{words if len(words) <= 50 else words[:49] + '…'}`"


SIGNS: dict[type, str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.MatMult: "@",
    ast.Pow: "**",
}
OPPOSITE: dict[type, tuple[tuple[type, str], ...]] = {
    ast.Add: ((ast.Sub, "the sign in {} is wrong"), (ast.Mult, "{} adds; it should multiply")),
    ast.Sub: ((ast.Add, "the sign in {} is wrong"), (ast.Mult, "{} subtracts; it should multiply")),
    ast.Mult: (
        (ast.Div, "{} multiplies; it should divide"),
        (ast.MatMult, "{} multiplies elementwise; a matrix product is meant"),
        (ast.Add, "{} multiplies; it should add"),
        (ast.Pow, "{} multiplies; a power is meant"),
    ),
    ast.Div: (
        (ast.Mult, "{} divides; it should multiply"),
        (ast.FloorDiv, "{} gives a fraction; a whole number is meant"),
    ),
    ast.FloorDiv: ((ast.Div, "{} rounds down"), (ast.Mult, "{} divides; it should multiply")),
    ast.MatMult: ((ast.Mult, "{} is a matrix product; an elementwise product is meant"),),
    ast.Pow: ((ast.Mult, "{} is a power; a product is meant"),),
}


def _operators(node: ast.AST, parent: ast.AST, field: str) -> Iterator[Change]:
    match node:
        case ast.Assign(targets=[ast.Subscript() | ast.Name() | ast.Attribute() as target]):
            more: Any = ast.AugAssign(target, ast.Add(), node.value)
            yield more, "`=` keeps only the last value: add them up with `+=`"
        case ast.AugAssign(target, op, value):
            yield ast.Assign([target], value), "the old value should not be kept: `=`"
            for other, _ in OPPOSITE.get(type(op), ()):
                yield ast.AugAssign(target, other(), value), "the operator is wrong"
        case ast.BinOp(left, op, right):
            if not isinstance(op, (ast.Add, ast.Mult)):
                yield ast.BinOp(right, op, left), f"the two sides of {text(node)} are swapped"
            yield left, f"{text(right)} does not belong in {text(node)}"
            yield right, f"{text(left)} does not belong in {text(node)}"
            for other, words in OPPOSITE.get(type(op), ()):
                yield ast.BinOp(left, other(), right), words.format(text(node))
            match node:  # a / b * c, where a / (b * c) is meant, and the other way round
                case ast.BinOp(ast.BinOp(a, ast.Div(), b), ast.Mult(), c):
                    grouped = ast.BinOp(a, ast.Div(), ast.BinOp(b, ast.Mult(), c))
                    yield grouped, f"parentheses are missing in {text(node)}: `/ b * c` multiplies"
                case ast.BinOp(a, ast.Add() | ast.Sub() as sign, ast.BinOp(b, outer, c)):
                    grouped = ast.BinOp(ast.BinOp(a, sign, b), outer, c)
                    yield grouped, f"parentheses are missing in {text(node)}"
                case ast.BinOp(ast.BinOp(a, ast.Add() | ast.Sub() as sign, b), outer, c):
                    grouped = ast.BinOp(a, sign, ast.BinOp(b, outer, c))
                    yield grouped, f"parentheses are in the wrong place in {text(node)}"
        case ast.UnaryOp(ast.USub() | ast.Not() | ast.Invert(), operand):
            yield operand, f"the sign of {text(node)} is wrong"
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body), f"the two branches of {text(node)} are swapped"
        case ast.If(test, body, orelse) if orelse:
            yield ast.If(test, orelse, body), "the two branches of the condition are swapped"
        case ast.BoolOp(op, values):
            other_op = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield ast.BoolOp(other_op, values), "`and` and `or` are swapped"


AXES = (0, 1, -1, 2, (0, 1), (1, 2), (0, 1, 2), None)
REDUCTIONS = {
    "sum",
    "mean",
    "max",
    "min",
    "argmax",
    "argmin",
    "std",
    "var",
    "cumsum",
    "prod",
    "any",
}


def _keywords(node: ast.AST, parent: ast.AST, field: str) -> Iterator[Change]:
    if not isinstance(node, ast.Call):
        return
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    kept = {k.arg: k for k in node.keywords}

    def using(**new: Any) -> ast.Call:
        rest = [k for k in node.keywords if k.arg not in new]
        more = [ast.keyword(k, ast.parse(repr(v), mode="eval").body) for k, v in new.items()]
        return ast.Call(node.func, node.args, rest + more)

    if name in REDUCTIONS:
        method = not (isinstance(node.func, ast.Attribute) and text(node.func.value) == "`np`")
        given = len(node.args) > (0 if method else 1)
        if given:
            for axis in AXES:
                args = [*node.args[:-1], ast.parse(repr(axis), mode="eval").body]
                yield ast.Call(node.func, args, node.keywords), f"the axis of {text(node)} is wrong"
        else:
            for axis in AXES:
                said = "the axis of {} is wrong" if "axis" in kept else "{} should have an axis"
                yield using(axis=axis), said.format(text(node))
        for keep in (True, False):
            words = "needs keepdims=True" if keep else "should not keep the summed axis"
            yield using(keepdims=keep), f"{text(node)} {words}"
        if name in ("std", "var"):
            for ddof in (0, 1):
                words = "divides by n; n − 1 is meant: ddof=1" if ddof else "divides by n − 1"
                yield using(ddof=ddof), f"{text(node)} {words}"
    for k in node.keywords:
        rest = [other for other in node.keywords if other is not k]
        if k.arg:
            words = f"`{k.arg}=` does not belong in {text(node)}"
            yield ast.Call(node.func, node.args, rest), words


SIBLINGS = {
    "sum": ("mean",),
    "mean": ("sum",),
    "max": ("argmax", "min"),
    "min": ("argmin", "max"),
    "argmax": ("argmin", "max"),
    "argmin": ("argmax",),
    "std": ("var",),
    "var": ("std",),
    "zeros": ("ones",),
    "ones": ("zeros",),
    "floor": ("ceil",),
    "sin": ("cos",),
    "cos": ("sin",),
    "sinh": ("tanh",),
    "cosh": ("tanh",),
    "tan": ("tanh",),
    "exp": ("log",),
    "log": ("exp",),
    "sqrt": ("square",),
    "square": ("sqrt",),
    "hstack": ("vstack",),
    "vstack": ("hstack",),
    "eval": ("train",),
}


def _calls(node: ast.AST, parent: ast.AST, field: str) -> Iterator[Change]:
    match node:
        case ast.Attribute(value, attr, ctx):
            for other in SIBLINGS.get(attr, ()):
                yield ast.Attribute(value, other, ctx), f"`{attr}` is not what is asked for"
        case ast.Name(name, ctx) if name in ("min", "max", "sum"):
            for other in {"min": ("max",), "max": ("min",), "sum": ("max",)}[name]:
                yield ast.Name(other, ctx), f"`{name}` is not what is asked for"
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and text(node.func.value) not in ("`np`", "`math`"):
            yield node.func.value, f"`.{node.func.attr}(…)` does not belong there"
        for argument in node.args[:1]:
            yield argument, f"the call of {text(node.func)} does not belong there"
        yield node.func, f"{text(node.func)} is called, where the function itself is meant"
        if text(node.func) == "`range`" and len(node.args) == 1:
            (n,) = node.args
            one = ast.Constant(1)
            shorter: list[tuple[list[ast.expr], str]] = [
                ([one, n], "starts one too early"),
                ([ast.BinOp(n, ast.Add(), one)], "ends one too early"),
                ([ast.BinOp(n, ast.Sub(), one)], "ends one too late"),
            ]
            for args, words in shorter:
                yield ast.Call(node.func, args, []), f"{text(node)} {words}"
    returned = isinstance(parent, (ast.Return, ast.Lambda)) and field in ("value", "body")
    if returned and isinstance(node, ast.expr) and not isinstance(node, ast.Tuple):
        yield (
            ast.Tuple([node], ast.Load()),
            "a tuple is asked for, even of one: a comma is missing",
        )
        for how, words in (
            ("sum", "the sum over all of it is missing"),
            ("mean", "the mean over all of it is missing"),
            ("copy", "a copy is missing: this is the argument itself"),
        ):
            yield ast.Call(ast.Attribute(node, how, ast.Load()), [], []), words


def _transposes(node: ast.AST, parent: ast.AST, field: str) -> Iterator[Change]:
    match node:
        case ast.Attribute(value, "T"):
            yield value, f"{text(value)} should not be transposed"
        case ast.expr() if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.MatMult):
            yield ast.Attribute(node, "T", ast.Load()), f"{text(node)} should be transposed"
        case ast.BinOp(ast.Attribute(a, "T"), ast.MatMult(), ast.Attribute(b, "T")):
            yield ast.BinOp(a, ast.MatMult(), b), "nothing should be transposed"
        case ast.BinOp(ast.Attribute(a, "T"), ast.MatMult(), b):
            moved = ast.Attribute(b, "T", ast.Load())
            yield (
                ast.BinOp(a, ast.MatMult(), moved),
                f"{text(b)} should be transposed, not {text(a)}",
            )
        case ast.BinOp(a, ast.MatMult(), ast.Attribute(b, "T")):
            moved = ast.Attribute(a, "T", ast.Load())
            yield (
                ast.BinOp(moved, ast.MatMult(), b),
                f"{text(a)} should be transposed, not {text(b)}",
            )
    match node:
        case ast.BinOp(a, ast.MatMult(), b):  # the factors swapped, with one of them transposed
            for x, y in itertools.product((a, _t(a)), (b, _t(b))):
                words = f"the factors of {text(node)} are in the wrong order, or wrongly transposed"
                yield ast.BinOp(y, ast.MatMult(), x), words


def _t(node: ast.expr) -> ast.expr:
    match node:
        case ast.Attribute(value, "T"):
            return value
    return ast.Attribute(node, "T", ast.Load())


def _constants(node: ast.AST, parent: ast.AST, field: str) -> Iterator[Change]:
    match node:
        case ast.Constant(bool(value)):
            yield ast.Constant(not value), f"{value} should be {not value}"
        case ast.Constant(int(value)):
            for whole in dict.fromkeys((value - 1, value + 1, 0, 1, 2, -1)):
                if whole != value:
                    yield ast.Constant(whole), f"the number {value} is not right"
        case ast.Constant(float(value)):
            for near in (0.0, 1.0, 0.5, 2.0, -value, value / 2, 2 * value, value**2):
                yield ast.Constant(near), f"the number {value} is not right"
        case ast.Constant(str(value)) if not isinstance(parent, ast.Expr):
            for word in ("reflect", "constant", "ij", "places", "both", "none"):
                yield ast.Constant(word), f"{value!r} is not what is asked for"
        case ast.Slice(lower, upper, step):
            yield (
                ast.Slice(lower, upper, None if step else ast.Constant(-1)),
                (
                    "the order along this axis is reversed"
                    if step
                    else "the order should be reversed"
                ),
            )
            if lower:
                yield ast.Slice(None, upper, step), f"the slice {text(node)} begins too late"
            if upper:
                yield ast.Slice(lower, None, step), f"the slice {text(node)} ends too early"
            one = ast.Constant(1)
            for side, bound in (("begins", lower), ("ends", upper)):
                if bound is None:
                    continue
                for sign, words in ((ast.Add(), "too early"), (ast.Sub(), "too late")):
                    moved = ast.BinOp(bound, sign, one)
                    new = (moved, upper, step) if side == "begins" else (lower, moved, step)
                    yield ast.Slice(*new), f"the slice {text(node)} {side} one {words}"


TURNED: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}


def _comparisons(node: ast.AST, parent: ast.AST, field: str) -> Iterator[Change]:
    match node:
        case ast.Compare(left, [op], [right]):
            for n, other in enumerate(TURNED.get(type(op), ())):
                strict = n == 0 and not isinstance(op, (ast.Eq, ast.NotEq, ast.In, ast.NotIn))
                words = (
                    "treats equality wrongly: compare `<` with `<=`" if strict else "is reversed"
                )
                yield ast.Compare(left, [other()], [right]), f"the comparison {text(node)} {words}"


def _orders(node: ast.AST, parent: ast.AST, field: str) -> Iterator[Change]:
    match node:
        case ast.Tuple(elements, ctx) if 1 < len(elements) <= 6:
            what = "the results are" if isinstance(parent, (ast.Return, ast.Lambda)) else "this is"
            if isinstance(parent, ast.Subscript):
                what = f"the indices {text(node)} are"
            for new in _reordered(elements):
                yield ast.Tuple(new, ctx), f"{what} in the wrong order"
        case ast.Call(func, args, keywords) if len(args) > 1:
            for new in _reordered(args):
                yield (
                    ast.Call(func, new, keywords),
                    (f"two arguments of {text(func)} are swapped"),
                )


def _reordered(elements: list[Any]) -> Iterator[list[Any]]:
    """The elements with two of them swapped; all orders of up to four."""
    if len(elements) <= 4:
        yield from map(list, itertools.islice(itertools.permutations(elements), 1, None))
        return
    for i, j in itertools.combinations(range(min(len(elements), 9)), 2):
        new = list(elements)
        new[i], new[j] = new[j], new[i]
        yield new


def _other_names(node: ast.AST, names: list[str]) -> Iterator[Change]:
    match node:
        case ast.Name(name, ast.Load() as ctx) if name in names:
            for other in names:
                if other != name:
                    yield ast.Name(other, ctx), f"`{name}` is not the right variable"
        case ast.Constant(int(value)):
            for other in names:
                yield ast.Name(other, ast.Load()), f"a variable belongs where the number {value} is"


def _factors(node: ast.AST, parent: ast.AST, field: str, names: list[str]) -> Iterator[Change]:
    """A factor or a term more, where something is returned or stored."""
    returned = isinstance(parent, (ast.Return, ast.Tuple, ast.Lambda, ast.Assign, ast.AugAssign))
    if not (returned and field in ("value", "elts", "body") and isinstance(node, ast.expr)):
        return
    if isinstance(node, (ast.Tuple, ast.Lambda)):
        return
    for name in names:
        other = ast.Name(name, ast.Load())
        size = ast.Call(ast.Name("len", ast.Load()), [other], [])
        yield ast.BinOp(other, ast.Mult(), node), f"the factor `{name}` is missing"
        yield ast.BinOp(node, ast.Add(), other), f"the term `{name}` is missing"
        yield ast.BinOp(node, ast.Div(), size), f"the division by len({name}) is missing"
        yield ast.BinOp(node, ast.Div(), other), f"the division by `{name}` is missing"
        yield ast.BinOp(node, ast.FloorDiv(), other), f"the division by `{name}` is missing"
    yield ast.UnaryOp(ast.USub(), node), f"the sign of {text(node)} is wrong"
    for n in (1, 2):
        one = ast.Constant(n)
        yield ast.BinOp(node, ast.Add(), one), f"{n} is missing in {text(node)}"
        yield ast.BinOp(node, ast.Sub(), one), f"{text(node)} is {n} too large"
    yield ast.BinOp(node, ast.Mult(), ast.Constant(2)), f"{text(node)} is half of what it should be"
    yield ast.BinOp(node, ast.Div(), ast.Constant(2)), f"{text(node)} is twice what it should be"
    yield ast.BinOp(node, ast.Pow(), ast.Constant(2)), f"{text(node)} should be squared"
    yield ast.BinOp(ast.Constant(1), ast.Sub(), node), f"1 − {text(node)} is meant"


def _statements(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Two lines swapped, one left out, one taken out of a loop or put into it."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            loops = [n for n in function.body if isinstance(n, (ast.For, ast.While))]
            for body in [n.body for loop in loops for n in ast.walk(loop) if hasattr(n, "body")]:
                if isinstance(body, list) and len(body) > 1 and isinstance(body[-1], ast.Return):
                    function.body.append(body.pop())
                    yield function.body[-1].lineno, "`return` is inside a loop: it belongs after it"
                    body.append(function.body.pop())
    bodies = [
        getattr(node, field)
        for node in ast.walk(tree)
        for field in ("body", "orelse")
        if isinstance(getattr(node, field, None), list)
    ]
    for body in bodies:
        for i, statement in enumerate(body):
            if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                continue
            if len(body) > 1:
                del body[i]
                yield statement.lineno, "something is done that should be left out"
                body.insert(i, statement)
            if i + 1 < len(body):
                body[i], body[i + 1] = body[i + 1], body[i]
                yield statement.lineno, "something comes too early: the next line belongs before it"
                body[i], body[i + 1] = body[i + 1], body[i]
            if i + 2 < len(body):
                body.insert(i + 2, body.pop(i))
                yield statement.lineno, "something comes too early"
                body.insert(i, body.pop(i + 2))
                body.insert(i, body.pop(i + 2))
                yield body[i].lineno, "something comes too late"
                body.insert(i + 2, body.pop(i))
            if isinstance(statement, (ast.For, ast.While, ast.With)):
                inner = statement.body
                if len(inner) > 1:
                    last = inner.pop()
                    body.insert(i + 1, last)
                    yield last.lineno, "something is inside the loop that belongs after it"
                    del body[i + 1]
                    inner.append(last)
                    start = inner.pop(0)
                    body.insert(i, start)
                    yield start.lineno, "something is inside the loop that belongs before it"
                    del body[i]
                    inner.insert(0, start)
                if i + 1 < len(body):
                    after = body.pop(i + 1)
                    inner.append(after)
                    yield after.lineno, "something comes after the loop that belongs inside it"
                    inner.pop()
                    body.insert(i + 1, after)
                if i > 0:
                    before = body.pop(i - 1)
                    inner.insert(0, before)
                    yield before.lineno, "something comes before the loop that belongs inside it"
                    del inner[0]
                    body.insert(i - 1, before)


def _reduces_an_axis(call: ast.Call) -> bool:
    """Whether a call is like `x.sum(axis=1)`, without `keepdims`."""
    name = getattr(call.func, "attr", "")
    given = {k.arg for k in call.keywords}
    return name in REDUCTIONS and "axis" in given and "keepdims" not in given


def _everywhere(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The same axis, number, operator or name changed wherever it stands."""
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.expr)]
    for sign, others in OPPOSITE.items():
        formulas = [n for n in nodes if isinstance(n, ast.BinOp) and type(n.op) is sign]
        for other, _ in others if len(formulas) > 1 else ():
            for formula in formulas:
                formula.op = other()
            words = f"and wherever it appears, the operator `{SIGNS[sign]}` is not right"
            yield formulas[0].lineno, words
            for formula in formulas:
                formula.op = sign()
    axes: dict[str, list[ast.keyword]] = {}
    for node in nodes:
        for keyword in getattr(node, "keywords", ()):
            if keyword.arg == "axis":
                axes.setdefault(ast.unparse(keyword.value), []).append(keyword)
    numbers: dict[int, list[ast.Constant]] = {}
    for node in nodes:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            numbers.setdefault(node.value, []).append(node)
    for old, keywords in axes.items():
        kept = [k.value for k in keywords]
        for axis in AXES:
            for k in keywords:
                k.value = ast.parse(repr(axis), mode="eval").body
            yield kept[0].lineno, f"and wherever it appears, axis={old} is the wrong axis"
        for k, value in zip(keywords, kept, strict=True):
            k.value = value
    reduced = [n for n in nodes if isinstance(n, ast.Call) and _reduces_an_axis(n)]
    if len(reduced) > 1:
        for call in reduced:
            call.keywords.append(ast.keyword("keepdims", ast.Constant(True)))
            ast.fix_missing_locations(call)
        words = "and wherever an axis is summed or searched, keepdims=True is missing"
        yield reduced[0].lineno, words
        for call in reduced:
            call.keywords.pop()
    for number, constants in numbers.items():
        for near in (number - 1, number + 1) if len(constants) > 1 else ():
            for c in constants:
                c.value = near
            words = f"and wherever it appears, the number {number} is not right"
            yield constants[0].lineno, words
            for c in constants:
                c.value = number
    for name, instead in itertools.permutations(_names(tree), 2):
        used = [n for n in nodes if isinstance(n, ast.Name) and n.id == name]
        used = [n for n in used if isinstance(n.ctx, ast.Load)]
        if len(used) > 1:
            for n in used:
                n.id = instead
            yield used[0].lineno, f"and wherever it appears, `{name}` is not the right variable"
            for n in used:
                n.id = name
