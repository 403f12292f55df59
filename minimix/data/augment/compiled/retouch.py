"""Images changed pixel by pixel.

In whole arrays (reference/) a batch takes longer than a training step of some networks. All of it
runs in the one thread that prepares batches: the other cores are the network's.

Unlike elsewhere, products and sums are not fused: every byte is what Pillow computes.
"""

from __future__ import annotations

import functools

import numpy as np

from ....kernels.simd.jit import helper, kernel
from ..operations import Retouch
from ..reference.retouch import check

exact_kernel = functools.partial(kernel, fastmath=False)
exact_helper = functools.partial(helper, fastmath=False)


# ---- crops, flips and affine maps

# Each kernel changes the images `which` in place, by one operation; p (6, n) are its parameters.


@exact_kernel
def _flip(images, which, operation, p, fill):
    w = images.shape[2]
    for i in which:
        for row in images[i]:
            for x in range(w // 2):
                for c in range(3):
                    row[x, c], row[w - 1 - x, c] = row[w - 1 - x, c], row[x, c]


@exact_helper
def _neighbors(place, size, start, length):
    """If `length` pixels from `start` on are stretched over `size` places: the two pixels between
    which a place lies, and the weight of the first, times 2²²."""
    center = (place + 0.5) * length / size
    first = max(np.floor(center - 0.5), 0.0)
    share = min(1 - (center - 0.5 - first), 1.0)
    near = start + int(first)
    return near, min(near + 1, start + length - 1), int(share * (1 << 22) + 0.5)


@exact_helper
def _between(near, far, weight):
    return np.uint8((near * weight + far * ((1 << 22) - weight) + (1 << 21)) >> 22)


@exact_kernel
def _enlarge(images, which, operation, p, fill):
    h, w = images.shape[1:3]
    for i in which:
        image, across = images[i], images[i].copy()
        top, left, height, width = int(p[0, i]), int(p[1, i]), int(p[2, i]), int(p[3, i])
        for x in range(w):
            near, far, weight = _neighbors(x, w, left, width)
            for y in range(top, top + height):
                for c in range(3):
                    across[y, x, c] = _between(image[y, near, c], image[y, far, c], weight)
        for y in range(h):
            near, far, weight = _neighbors(y, h, top, height)
            for x in range(w):
                for c in range(3):
                    image[y, x, c] = _between(across[near, x, c], across[far, x, c], weight)


@exact_helper
def _fixed(v):
    return int(np.floor(v * 65536.0 + 0.5))


@exact_kernel
def _nearest(images, which, operation, p, fill):
    h, w = images.shape[1:3]
    for i in which:
        image, old = images[i], images[i].copy()
        a, b, c, d, e, f = p[0, i], p[1, i], p[2, i], p[3, i], p[4, i], p[5, i]
        right_x, down_x, start_x = _fixed(a), _fixed(b), _fixed(c + (a + b) * 0.5)
        right_y, down_y, start_y = _fixed(d), _fixed(e), _fixed(f + (d + e) * 0.5)
        for y in range(h):
            for x in range(w):
                column = (right_x * x + down_x * y + start_x) >> 16
                row = (right_y * x + down_y * y + start_y) >> 16
                if 0 <= column < w and 0 <= row < h:
                    for k in range(3):
                        image[y, x, k] = old[row, column, k]
                else:
                    for k in range(3):
                        image[y, x, k] = fill[k]


@exact_helper
def _linear(p, q, t):
    return p + (q - p) * t


@exact_helper
def _cubic(p, q, r, s, t):
    return q + t * (r - p + t * (2 * (p - q) + r - s + t * (q - p - r + s)))


@exact_helper
def _around(place, size):
    """The two pixels before a place and the two after it; beyond the border the last one."""
    at = int(np.floor(place))
    return max(at - 1, 0), max(at, 0), min(at + 1, size - 1), min(at + 2, size - 1), place - at


@exact_helper
def _line(row, x0, x1, x2, x3, c, t, operation):
    """Between the pixels x1 and x2 of a row."""
    if operation == Retouch.BICUBIC:
        return _cubic(float(row[x0, c]), float(row[x1, c]), float(row[x2, c]), float(row[x3, c]), t)
    return _linear(float(row[x1, c]), float(row[x2, c]), t)


@exact_kernel
def _smooth(images, which, operation, p, fill):
    h, w = images.shape[1:3]
    for i in which:
        image, old = images[i], images[i].copy()
        for y in range(h):
            for x in range(w):
                column = p[0, i] * (x + 0.5) + p[1, i] * (y + 0.5) + p[2, i]
                row = p[3, i] * (x + 0.5) + p[4, i] * (y + 0.5) + p[5, i]
                if not (0 <= column < w and 0 <= row < h):
                    for c in range(3):
                        image[y, x, c] = fill[c]
                    continue
                x0, x1, x2, x3, right = _around(column - 0.5, w)
                y0, y1, y2, y3, down = _around(row - 0.5, h)
                for c in range(3):
                    q = _line(old[y1], x0, x1, x2, x3, c, right, operation)
                    r = _line(old[y2], x0, x1, x2, x3, c, right, operation)
                    if operation == Retouch.BICUBIC:
                        o = _line(old[y0], x0, x1, x2, x3, c, right, operation)
                        s = _line(old[y3], x0, x1, x2, x3, c, right, operation)
                        value = _cubic(o, q, r, s, down)
                    else:
                        value = _linear(q, r, down)
                    image[y, x, c] = np.uint8(min(max(value, 0.0), 255.0))


# ---- colors


@exact_helper
def _blend(plain, byte, factor):
    """plain + factor (byte − plain), truncated to a byte."""
    plain, byte = np.float32(plain), np.float32(byte)
    value = (byte - plain) * factor + plain
    value = value if value > 0 else np.float32(0)
    return np.uint8(np.int32(value if value < 255 else np.float32(255)))


# An unsigned index cannot count from the end of an axis. Loops over flat arrays with unsigned
# indices and no number wider than 32 bits compile to instructions for eight pixels at a time.

ONE, TWO, THREE = np.uint64(1), np.uint64(2), np.uint64(3)


@exact_helper
def _gray(image, red):
    """The luma of the pixel whose first byte is at `red`."""
    luma = np.int32(19595) * np.int32(image[red])
    luma += np.int32(38470) * np.int32(image[red + ONE])
    luma += np.int32(7471) * np.int32(image[red + TWO])
    return (luma + np.int32(0x8000)) >> np.int32(16)


@exact_kernel
def _saturate(images, which, operation, p, fill):
    for i in which:
        image, factor = images[i].reshape(-1), np.float32(p[0, i])
        for pixel in range(np.uint64(image.size) // THREE):
            red = THREE * pixel
            gray = _gray(image, red)
            for byte in (red, red + ONE, red + TWO):
                image[byte] = _blend(gray, np.int32(image[byte]), factor)


@exact_kernel
def _sharpen(images, which, operation, p, fill):
    h, w = images.shape[1:3]
    for i in which:
        image, factor = images[i].reshape(h, -1), np.float32(p[0, i])
        old = image.copy()
        for y in range(1, h - 1):  # the border stays
            above, here, below = old[y - 1], old[y], old[y + 1]
            for left in range(np.uint64(max(3 * w - 6, 0))):
                x = left + THREE
                right = x + THREE
                total = np.int32(4) * here[x]
                for row in (above, here, below):
                    total += np.int32(row[left]) + np.int32(row[x]) + np.int32(row[right])
                # total / 13, rounded
                blurred = np.int32(np.uint32(2 * total + 13) // np.uint32(26))
                image[y, x] = _blend(blurred, np.int32(here[x]), factor)


@exact_helper
def _look_up(table, image):
    """Replace each value (256) of each channel (3) by what the table has for it."""
    for pixel in image.reshape(-1, 3):
        for c in range(3):
            pixel[c] = table[c, pixel[c]]


@exact_kernel
def _recolor(images, which, operation, p, fill):
    """The operations in which a pixel's new value depends on its old one only."""
    table = np.empty((3, 256), np.uint8)
    for i in which:
        gray = 0.0
        if operation == Retouch.CONTRAST:  # the mean of its grays, rounded
            total = 0
            image = images[i].reshape(-1)
            for pixel in range(np.uint64(image.size) // THREE):
                total += _gray(image, THREE * pixel)
            gray = np.floor(total / (image.size // 3) + 0.5)
        kept = 256 - (1 << (8 - int(p[0, i]))) if operation == Retouch.POSTERIZE else 0
        for v in range(256):
            value = np.uint8(255 - v)
            if operation == Retouch.BRIGHTNESS or operation == Retouch.CONTRAST:
                value = _blend(gray, v, np.float32(p[0, i]))
            elif operation == Retouch.POSTERIZE:
                value = np.uint8(v & kept)
            elif operation == Retouch.SOLARIZE and v < p[0, i]:
                value = np.uint8(v)
            elif operation == Retouch.SOLARIZE_ADD:
                value = np.uint8(min(v + int(p[0, i]), 255) if v < 128 else v)
            for c in range(3):
                table[c, v] = value
        _look_up(table, images[i])


@exact_kernel
def _redistribute(images, which, operation, p, fill):
    """AUTOCONTRAST and EQUALIZE: from the histogram of each channel."""
    table = np.empty((3, 256), np.uint8)
    for i in which:
        counts = np.zeros((3, 256), np.int64)
        for pixel in images[i].reshape(-1, 3):
            for c in range(3):
                counts[c, pixel[c]] += 1
        for c in range(3):
            low, high = 0, 255
            while low < 255 and counts[c, low] == 0:
                low += 1
            while high > 0 and counts[c, high] == 0:
                high -= 1
            scale = 255.0 / (high - low) if high > low else 1.0
            shift = low * scale if high > low else 0.0
            step = (images[i].size // 3 - counts[c, high]) // 255
            below = 0
            for v in range(256):
                if operation == Retouch.AUTOCONTRAST:
                    table[c, v] = np.uint8(min(max(v * scale - shift, 0.0), 255.0))
                else:
                    table[c, v] = min((step // 2 + below) // step, 255) if step else v
                below += counts[c, v]
        _look_up(table, images[i])


_KERNELS = {
    Retouch.FLIP: _flip,
    Retouch.ENLARGE: _enlarge,
    Retouch.NEAREST: _nearest,
    Retouch.BILINEAR: _smooth,
    Retouch.BICUBIC: _smooth,
    Retouch.BRIGHTNESS: _recolor,
    Retouch.CONTRAST: _recolor,
    Retouch.SATURATION: _saturate,
    Retouch.SHARPNESS: _sharpen,
    Retouch.POSTERIZE: _recolor,
    Retouch.SOLARIZE: _recolor,
    Retouch.SOLARIZE_ADD: _recolor,
    Retouch.INVERT: _recolor,
    Retouch.AUTOCONTRAST: _redistribute,
    Retouch.EQUALIZE: _redistribute,
}


def retouch(images, operations, parameters, fill):
    check(images, operations, parameters, fill)
    images = images.copy(order="C")
    parameters, fill = parameters.copy(), fill.copy()
    for chosen, given in zip(operations, parameters, strict=True):
        for operation in set(chosen.tolist()) - {Retouch.NONE}:
            which = np.flatnonzero(chosen == operation)
            _KERNELS[operation](images, which, operation, given, fill)
    return images
