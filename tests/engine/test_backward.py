"""The tape: what goes back, in what order, and what is let go of on the way."""

import asyncio
import gc
import inspect
import threading
import weakref

import numpy as np
import pytest

from minimix import Tensor, no_grad, op
from minimix import functional as F
from minimix.autograd import is_recording


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


# ---- known answers


def test_a_known_gradient():
    x, y = leaf(2, 3), leaf(5, 7)
    z = x * y + x  # dz/dx = y + 1, dz/dy = x
    z.backward(np.array([1.0, 10.0]))
    assert x.grad.tolist() == [6, 80]
    assert y.grad.tolist() == [2, 30]


def test_one_number_knows_that_it_means_1():
    x = leaf(3)
    (x * x).backward()
    assert x.grad.tolist() == [6]
    single = Tensor(np.array(3.0), requires_grad=True)
    (single * single).backward()
    assert single.grad == 6
    assert isinstance(single.grad, np.ndarray)
    assert single.grad.shape == ()


def test_gradients_add_up_over_fan_out():
    x = leaf(3)
    a = x * 2  # read by both b and c; x is read by a and by the sum
    b, c = a * a, a * 5
    (b + c + x).backward()
    assert x.grad.tolist() == [2 * (2 * 6 + 5) + 1]


def test_gradients_add_up_over_many_readers():
    x = leaf(1)
    total = x * 1
    for i in range(2, 11):
        total = total + x * i
    total.backward()
    assert x.grad.tolist() == [55]


def test_a_tensor_used_twice_by_one_operation():
    x = leaf(3)
    (x + x).backward()
    assert x.grad.tolist() == [2]
    y = leaf(3)
    F.concatenate([y, y, y]).backward(np.array([1.0, 10.0, 100.0]))
    assert y.grad.tolist() == [111]


def test_a_part_of_a_single_number_is_added_to_what_others_gave():
    for whole in (lambda x: x[None].sum(), lambda x: x[...], lambda x: x[()] * 1):
        x = Tensor(2.0, requires_grad=True)
        part = whole(x)  # read first, so that its gradient comes last
        (x * 2 + x * 3 + part).backward()
        assert x.grad == 6


def test_a_diamond_in_which_the_newest_is_not_the_deepest():
    x = leaf(2)
    a = x * 3
    b = a * a
    c = x * 7  # newer than b, and nearer to x
    (b * c).backward()  # 9x² · 7x = 63 x³
    assert x.grad.tolist() == [63 * 3 * 4]


def test_gradients_add_up_over_calls_until_they_are_forgotten():
    x = leaf(3)
    (x * 2).backward()
    (x * 5).backward()
    assert x.grad.tolist() == [7]
    x.zero_grad()
    assert x.grad is None


def test_only_what_wants_a_gradient_gets_one():
    x, constant = leaf(3), Tensor(np.array([4.0]))
    middle = x * constant
    (middle * 2).backward()
    assert constant.grad is None
    assert middle.grad is None
    assert x.grad.tolist() == [8]


def test_a_gradient_that_nobody_needs_is_not_computed():
    asked = []

    @op
    def product(x, y):
        def backward(g):
            return lambda: asked.append("x") or g * y, lambda: asked.append("y") or g * x

        return x * y, backward

    product(Tensor(np.ones(2)), leaf(1, 2)).backward(np.ones(2))
    assert asked == ["y"]


def test_backward_from_a_leaf():
    x = leaf(1, 2)
    x.backward(np.array([3.0, 4.0]))
    assert x.grad.tolist() == [3, 4]


def test_retain_grad():
    x = leaf(3)
    middle = (x * 2).retain_grad()
    (middle * middle).backward()
    assert middle.grad.tolist() == [12]
    assert x.grad.tolist() == [24]


# ---- gradients belong to one tensor alone


def test_leaf_gradients_share_memory_with_nothing():
    x, y = leaf(1, 2), leaf(3, 4)
    g = np.array([5.0, 6.0])
    z = (x + y).retain_grad()
    z.backward(g)
    gradients = [x.grad, y.grad, z.grad, g]
    for i, a in enumerate(gradients):
        assert a.flags.writeable
        for b in gradients[i + 1 :]:
            assert not np.shares_memory(a, b)
    x.grad += 100
    assert y.grad.tolist() == [5, 6]
    assert g.tolist() == [5, 6]


def test_a_gradient_is_writable_though_it_was_broadcast():
    x = leaf(1, 2)
    F.sum(x).backward()
    x.grad += 1
    assert x.grad.tolist() == [2, 2]


def test_fan_out_does_not_write_into_what_was_sent():
    x = leaf(1, 2)
    g = np.array([1.0, 1.0])
    y = x * 1
    ((y + y) + y).backward(g)
    assert g.tolist() == [1, 1]
    assert x.grad.tolist() == [3, 3]


def test_gradients_are_contiguous():
    x = Tensor(np.ones((3, 4)), requires_grad=True)
    x.transpose().backward(np.ones((4, 3)))
    assert x.grad.flags.c_contiguous


# ---- no_grad


def test_nothing_is_recorded_inside_no_grad():
    x = leaf(1)
    with no_grad():
        y = x * 2
        assert not is_recording()
        with no_grad():
            pass
        assert not is_recording()
    assert is_recording()
    assert y.is_leaf
    assert not y.requires_grad


def test_no_grad_ends_with_an_error_and_decorates():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_recording()

    @no_grad()
    def double(x):
        return x * 2

    assert not double(leaf(1)).requires_grad
    assert is_recording()


@pytest.mark.parametrize("decorator", [no_grad, no_grad()], ids=["bare", "called"])
def test_no_grad_decorates_whatever_runs(decorator):
    x = leaf(1)

    @decorator
    def again(n):
        """Calls itself."""
        return [is_recording(), *(again(n - 1) if n else [])]

    assert not any(again(3))
    assert again.__name__ == "again"
    assert again.__doc__ == "Calls itself."

    class Model:
        @decorator
        def double(self, x):
            return x * 2

    assert not Model().double(x).requires_grad

    @decorator
    async def later(x):
        await asyncio.sleep(0)
        return (x * 2).requires_grad, is_recording()

    async def meanwhile():
        return [(is_recording(), await asyncio.sleep(0)) for _ in range(4)]

    async def both():
        return await asyncio.gather(later(x), meanwhile(), later(x))

    one, other, two = asyncio.run(both())
    assert one == two == (False, False)
    assert all(recording for recording, _ in other)
    assert inspect.iscoroutinefunction(later)
    assert is_recording()


@pytest.mark.parametrize("decorator", [no_grad, no_grad()], ids=["bare", "called"])
def test_no_grad_decorates_a_generator(decorator):
    """Nothing is recorded in its own steps, everything in between."""
    x, log = leaf(1), []

    @decorator
    def doubled():
        try:
            sent = yield (x * 2).requires_grad
            while True:
                try:
                    sent = yield sent, (x * 2).requires_grad
                except KeyError as error:
                    sent = error
                if sent == "enough":
                    return "the end"
        finally:
            log.append((x * 2).requires_grad)

    def outer():
        return (yield from doubled())

    steps = outer()
    assert inspect.isgeneratorfunction(doubled)
    assert next(steps) is False
    assert (x * 2).requires_grad
    assert steps.send(5) == (5, False)
    error = KeyError("k")
    assert steps.throw(error) == (error, False)
    assert is_recording()
    with pytest.raises(StopIteration) as end:
        steps.send("enough")
    assert end.value.value == "the end"
    assert log == [False]
    steps = doubled()
    next(steps)
    with pytest.raises(ValueError, match="unknown"):
        steps.throw(ValueError("unknown"))
    steps = doubled()
    next(steps)
    steps.close()
    assert log == [False] * 3
    assert is_recording()
    with no_grad():
        steps = doubled()
        next(steps)
        assert not is_recording()
    assert next(steps) == (None, False)
    assert is_recording()


def test_what_no_grad_does_not_decorate():
    class Model:
        pass

    async def generator():
        yield 1

    with pytest.raises(TypeError, match=r"no_grad: .*Model is a class; decorate functions"):
        no_grad(Model)
    with pytest.raises(TypeError, match=r"generator is an asynchronous generator; .* `with no_g"):
        no_grad()(generator)


def test_a_block_may_be_entered_twice():
    block = no_grad()
    with block, block:
        assert not is_recording()
    assert is_recording()
    with block:
        assert not is_recording()


def test_no_grad_is_one_thread_s_own():
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append(is_recording()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_detach_stops_the_gradient():
    x = leaf(3)
    (x.detach() * x).backward()
    assert x.grad.tolist() == [3]


# ---- long chains


def chain(length):
    x = leaf(1)
    y = x
    for _ in range(length):
        y = -y
    return x, y


def test_a_chain_of_100_000_nodes_goes_back():
    x, y = chain(100_000)
    y.backward()
    assert x.grad.tolist() == [1]


def test_a_chain_of_100_000_nodes_is_forgotten_without_going_back():
    _, y = chain(100_000)
    alive = weakref.ref(y)
    del y
    gc.collect()
    assert alive() is None


# ---- memory


def test_what_was_saved_is_freed_as_backward_passes():
    """When the gradient reaches the first operation, what the later ones saved is gone."""
    saved, seen = [], []

    class Saved(np.ndarray):
        pass

    @op
    def keep(x):
        mine = x.copy().view(Saved)
        saved.append(weakref.ref(mine))

        def backward(g):
            seen.append([ref() is not None for ref in saved])
            return g * np.asarray(mine)

        return np.array(x), backward

    x = leaf(1, 2)
    y = keep(keep(keep(x)))
    y.backward(np.ones(2))
    assert seen == [[True, True, True], [True, True, False], [True, False, False]]
    assert not any(ref() is not None for ref in saved)
    assert y.shape == (2,)


def test_intermediate_results_are_freed_as_backward_passes():
    alive = []
    counts = []

    @op
    def watch(x):
        def backward(g):
            counts.append(sum(ref() is not None for ref in alive))
            return g

        return x + 1, backward

    y = leaf(1)
    for _ in range(6):
        y = watch(y)
        alive.append(weakref.ref(y))
    y.backward()
    # The last is ours; each other operation finds its own result gone, and those before it there.
    assert counts == [6, 5, 4, 3, 2, 1]


def test_the_graph_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        x = leaf(1, 2)
        y = F.sum(F.tanh(x * 3) * x)
        alive = weakref.ref(y)
        del y
        assert alive() is None
    finally:
        gc.enable()


# ---- the gradient of a part


def test_parts_of_one_tensor_add_up():
    """Whatever else is waiting for it: nothing, another part, all of it, before or after."""
    for order in ("ab", "aab", "axb", "xab", "abx", "xxa", "axa"):
        x = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
        terms = {
            "a": lambda x=x: (x[0] * 2).sum(),
            "b": lambda x=x: (x[:, 1:] * 10).sum(),
            "x": lambda x=x: (x * 100).sum(),
        }
        total = sum(terms[term]() for term in order)
        total.backward()
        a = np.array([[2, 2, 2], [0, 0, 0]])
        b = np.array([[0, 10, 10], [0, 10, 10]])
        expected = order.count("a") * a + order.count("b") * b + order.count("x") * 100
        assert np.array_equal(x.grad, expected), order


def test_a_part_leaves_the_gradient_of_others_alone():
    """x and y wait for one array, g; x gets a part more, and y must not."""
    x, y = (Tensor(np.zeros(3), requires_grad=True) for _ in range(2))
    g = np.array([1.0, 2.0, 3.0])
    part = (x[1:] * 10).sum()
    ((x + y) + part).backward(g)
    assert x.grad.tolist() == [1, 62, 63]
    assert y.grad.tolist() == g.tolist() == [1, 2, 3]
    once = Tensor(np.zeros((2, 2)), requires_grad=True)
    once[0].backward(g[:2])
    once.grad += 1
    assert g.tolist() == [1, 2, 3]
    assert once.grad.tolist() == [[2, 3], [1, 1]]
