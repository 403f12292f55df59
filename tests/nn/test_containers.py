"""Lists and dicts of modules and parameters, as people expect them."""

import re

import numpy as np
import pytest

from minimix import Parameter, Tensor, nn
from minimix import functional as F


def layers(n):
    return [nn.Linear(2, 2, rng=i) for i in range(n)]


@pytest.mark.parametrize("kind", [nn.ModuleList, lambda items: nn.Sequential(*items)])
def test_a_list_of_modules(kind):
    a, b, c, d = layers(4)
    some = kind([a, b])
    assert (len(some), list(some), some[0], some[-1]) == (2, [a, b], a, b)
    assert list(some.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    some.append(c)
    some.extend([d])
    some += [nn.GELU()]
    assert [name for name, _ in some.named_modules()] == ["", "0", "1", "2", "3", "4"]
    assert list(some.children())[:4] == [a, b, c, d]
    part = some[1:3]
    assert type(part) is type(some)
    assert list(part) == [b, c]
    assert list(part.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    part[0].weight.array = np.zeros((2, 2))
    assert not some[1].weight.array.any()  # nothing is copied
    del some[1]
    some[0] = d
    some.insert(1, a)
    assert list(some)[:-1] == [d, a, c, d]
    assert list(some.state_dict())[-1] == "3.bias"
    assert some.pop() is not d
    assert c in some
    assert some.index(c) == 2
    for i in (4, -5):
        with pytest.raises(IndexError):
            some[i]
    some[1:] = []
    assert list(some) == [d]
    assert not kind([])


def test_sequential_calls_what_it_holds_now():
    a, b, c = layers(3)
    x = Tensor(np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32))
    seq = nn.Sequential(a, b)
    seq.append(c)
    setattr(seq, "1", nn.ReLU())
    assert np.array_equal(seq(x).array, c(F.relu(a(x))).array)
    del seq[0]
    assert np.array_equal(seq(x).array, c(F.relu(x)).array)
    with pytest.raises(NotImplementedError, match="ModuleList has no forward"):
        nn.ModuleList([a])(x)


@pytest.mark.parametrize("wrong", [F.relu, None, Parameter([1.0]), [nn.GELU()]])
def test_what_is_no_module(wrong):
    some = nn.ModuleList(layers(2))
    message = re.escape("ModuleList: item 2 is ") + ".*; expected a Module"
    with pytest.raises(TypeError, match=message):
        some.append(wrong)
    with pytest.raises(TypeError, match=r"item 0 is .*; expected a Module"):
        some[0] = wrong
    with pytest.raises(TypeError, match=r"'a' is .*; expected a Module"):
        nn.ModuleDict({"a": wrong})
    assert len(some) == 2


def test_a_list_of_parameters():
    one, two = Parameter([1.0]), Parameter([2.0])
    some = nn.ParameterList([one])
    some.append(two)
    assert list(some.state_dict()) == ["0", "1"]
    assert [a is b for a, b in zip(some, (one, two), strict=True)] == [True, True]
    assert type(some[:1]) is nn.ParameterList
    assert [p is one for p in some[:1]] == [True]
    assert [id(p) for p in some.parameters()] == [id(one), id(two)]
    twin = Parameter([2.0])
    assert [p in some for p in (one, two, twin)] == [True, True, False]
    assert (some.index(two), some.index(two, -1)) == (1, 1)
    for item, at in ((twin, 0), (one, 1)):
        with pytest.raises(ValueError, match="is not in it"):
            some.index(item, at)
    some.remove(one)
    assert [p is two for p in some] == [True]
    with pytest.raises(TypeError, match=r"ParameterList: item 0 is Linear.*; expected a Parameter"):
        nn.ParameterList([nn.Linear(1, 1)])


def test_a_dict_of_modules():
    a, b = layers(2)
    some = nn.ModuleDict({"first": a})
    some["second"] = b
    assert list(some) == ["first", "second"]
    assert dict(some.items()) == {"first": a, "second": b}
    assert some["second"] is b
    assert some.second is b
    assert "first" in some
    assert list(some.state_dict()) == ["first.weight", "first.bias", "second.weight", "second.bias"]
    del some["first"]
    assert (list(some), len(some)) == (["second"], 1)
    for key in ("first", "training", 0):
        with pytest.raises(KeyError):
            some[key]
        with pytest.raises(KeyError):
            del some[key]
    for key in ("keys", "train", "a.b"):
        with pytest.raises(ValueError, match=f"'{key}' (is part of every|cannot be a name)"):
            some[key] = a
    assert some != nn.ModuleDict({"second": b})  # modules are themselves, not their contents
    assert len({some, a}) == 2


def test_what_comes_out_of_a_residual_must_fit():
    x = Tensor(np.ones((2, 3), np.float32))
    for fn, shape in ((nn.Linear(3, 1), (2, 1)), (nn.Linear(3, 4), (2, 4))):
        message = re.escape(f"Residual: fn gave shape {shape}, not that of x, (2, 3)")
        with pytest.raises(ValueError, match=message):
            nn.Residual(fn)(x)
