"""Files, damaged in ways that a loader may meet."""

import random


def mutations(content: bytes, n: int, seed: int):
    """`n` damaged copies of `content`: bytes changed, cut out, repeated, or the end missing."""
    rng = random.Random(seed)
    for _ in range(n):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            at = rng.randrange(len(damaged) or 1)
            # The first bytes are the header, where most of what can go wrong is decided.
            at = min(at, rng.randrange(256)) if rng.random() < 0.5 else at
            kind = rng.randrange(6)
            if kind == 0:
                damaged[at : at + 1] = bytes([rng.randrange(256)])
            elif kind == 1:
                damaged[at : at + 1] = (b ^ 1 << rng.randrange(8) for b in damaged[at : at + 1])
            elif kind == 2:
                damaged[at : at + 4] = rng.choice((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff"))
            elif kind == 3:
                del damaged[at : at + rng.randrange(1, 64)]
            elif kind == 4:
                damaged[at:at] = damaged[at : at + rng.randrange(1, 64)]
            else:
                del damaged[at:]
        yield bytes(damaged)
