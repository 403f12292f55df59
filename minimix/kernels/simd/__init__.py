"""The language that compiled kernels are written in: vectors, rows, shared work, cached code.

    vectors.py   numbers a vector at a time
    rows.py      rows (M, C) in chunks, and sums over chunks in a fixed order
    team.py      the threads that share one kernel's work
    work.py      how they share it, and wait for one another
    threads.py   how many they are
    memory.py    arrays for results
    jit.py       compiling and caching
    parts.py     helpers, which are compiled as part of kernels
    private.py   what is used of Numba that it does not document

A kernel is a Python function under `@kernel`, which Numba compiles when it is first called; a
function that only kernels call is a `@helper`. Arrays arrive flat, contiguous and sure to be long
enough (`minimix.kernels.dispatch` sees to that), next to the lengths of their axes. This one
doubles every number of x:

    @kernel
    def _double(queue, x, y):
        step = lanes(x)
        for piece in work(shared(queue)):
            stop = min((piece + 1) * PIECE, x.size)
            for i in range(piece * PIECE, stop, step):
                v = load(x, i, stop - i)
                store(y, i, stop - i, v + v)

    def double(x):
        y = empty_like(x)
        run(_double, pieces(x.size), flat(x), y.reshape(-1))
        return y

`run` calls the kernel, and threads that wait for that make the same call. `work(shared(queue))`
gives each thread pieces that nobody has taken yet, first those of its own share, until none are
left. Who computes a piece never changes what is in it, and sums over pieces are added in the order
of the pieces: so the bits are the same for any number of threads. `queue` comes first, and `shared`
stands in the kernel itself, not in a `@helper`: it writes down the kernel's call, for the other
threads. Behind the loop, `if is_caller(queue):` is the place to put together what the pieces gave:
by then all are done.

A vector is as many neighboring numbers as fit into one of the machine's registers: 16 float32 with
AVX-512, 8 with AVX, 4 with SSE or NEON; half as many float64.

    lanes(x)                   how many numbers of x's kind fit into a vector
    load(x, i, n)              x[i : i+lanes] as a vector; only the first n are read, the rest is 0
    store(y, i, n, v)          the first n numbers of v to y[i : i+n]
    turn_rows(x, i, row, n, c, y, j, ahead)   n rows of c numbers, transposed
    zeros(x)                   a vector of zeros
    room(n, x)                 an array of n zeros of x's kind, which begins at a cache line
    near(x)                    a copy of x in such an array: for what every row needs
    copy(x, i, n, y, j)        y[j : j+n] = x[i : i+n]
    first(v, n)                v, but 0 in lanes from n on
    v + w, v * 2.0, -v, v / w  in every lane; a number counts as a vector of equal numbers
    sqrt(v), exp2(v), clip(v, low, high), squarable(v)
    gate(v, w)                 w where v > 0, else 0; where_equal(v, w, u): u where v = w, else 0
    first_largest(v, at, w, w_at)   (w, w_at) where w > v, else (v, at)
    larger(v, w)               the larger in each lane; load_or_least reads −∞ past n
    sum_lanes(v), largest_lane(v)   one number from all lanes
    gelu_value(v)              v Φ(v)
    gelu_and_slope(v)          the same, and its derivative; relu_and_slope(v)
    widen(v)                   v in float64, with as many lanes; load_wide reads such vectors back
    any_greater(v, w)          whether v > w in any lane
    prefetch(x, i), prefetch_write(x, i)   ask for x[i], to be read or written soon

n may be larger than lanes(x): it counts what is left, and a loop over `range(0, n, lanes(x))` that
passes n − i needs no special last step. A product and a sum may be fused into one rounding; nothing
else of IEEE arithmetic is given up, so NaN and infinity come through.

Why not plain loops: LLVM turns them into vector code only while it can prove that no two arrays
overlap and no index is negative, and falls back to one number at a time without a word. Two kernels
need still more control and are written in LLVM's own instructions: a tile of a matrix product
(compiled/matmul.py), and the inner loops of depthwise convolution (compiled/depthwise.py).
"""
