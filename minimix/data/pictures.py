"""Pictures of any format, mode and size, as a network takes them."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..kernels import get_num_threads

if TYPE_CHECKING:
    from PIL.Image import Image

TOGETHER = 32  # pictures that a thread decodes at a time

# Formats whose 16-bit pixels go from 0 to 65,535. (FITS and McIDAS hold measurements.)
SIXTEEN_BITS = ("PNG", "PPM", "TIFF", "JPEG2000", None)  # None: made in memory


def read(
    path: str | os.PathLike[str], size: Sequence[int], crop: float | None = None
) -> np.ndarray:
    """The picture in a file: its largest central part of the shape `size`, resized to it.

    size  height and width
    crop  0 < crop ≤ 1: the picture is resized until its short side is that of `size` over crop,
          rounded down, and the middle cut out of it, as timm and torchvision do

    Returns uint8 (height, width, 3): gray becomes three equal channels, of 16 bits the upper eight
    count, floats go from 0 to 1, transparency is laid on white, an animation shows its first frame.
    A camera's orientation is followed where it can be read.

    Errors: DataError, in one line, where the file is not a picture, is damaged, or holds numbers
    whose range is not known; with a cause where it is the system's, and may pass.
    """
    from PIL import Image, UnidentifiedImageError  # not worth its time to those who only train

    cause: Exception | None = None  # that may be another one the next time
    try:
        with _QUIETLY, Image.open(path) as file:
            if file.format == "EPS":  # a program, for which Pillow would start Ghostscript
                raise _UnusableError("EPS is not supported; save it as PNG")
            return _fit(_upright(file, to_rgb(file)), size, crop)
    except _UnusableError as error:
        reason = str(error)
    except UnidentifiedImageError:
        reason = "it is not a picture in a format that Pillow reads, such as JPEG or PNG"
    except Image.DecompressionBombError:
        reason = f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; make it smaller"
    except MemoryError as error:
        reason, cause = "not enough memory; make it smaller", error
    except Exception as error:  # a decoder raises nearly anything, given damaged bytes
        system = getattr(error, "strerror", None)
        reason = system or f"it is damaged ({' '.join(str(error).split()) or type(error).__name__})"
        cause = error if system else None
    raise DataError(f"cannot read {path}: {reason}") from cause


def read_all(
    paths: Sequence[str | os.PathLike[str]], size: Sequence[int], crop: float | None = None
) -> Iterator[np.ndarray | DataError]:
    """Each picture as `read` gives it, or its error, in order; decoded by as many threads as
    kernels use.

    Only a few pictures are held at a time, however many there are.
    """

    def decode(some: Sequence[str | os.PathLike[str]]) -> list[np.ndarray | DataError]:
        results: list[np.ndarray | DataError] = []
        for path in some:
            try:
                results.append(read(path, size, crop))
            except DataError as error:
                results.append(error)
        return results

    threads = get_num_threads()
    ahead: deque[Future[list[np.ndarray | DataError]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="minimix-pictures")
    try:
        for i in range(0, len(paths), TOGETHER):
            ahead.append(pool.submit(decode, paths[i : i + TOGETHER]))
            if len(ahead) > 2 * threads:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Pictures uint8 (N, H, W, 3) with one channel, which is their luma after ITU-R 601, or three.

    Errors: DataError for another number of channels.
    """
    if channels == 3:
        return images
    if channels != 1:
        raise DataError(f"pictures have one or three channels; the model takes {channels}")
    return (images @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None]


class _UnusableError(Exception):
    """Why a picture that is whole cannot be used."""


class _Quietly:
    """Inside, Pillow's warnings are ignored: of what it can make sense of all the same.

    Filters are the whole process's. `catch_warnings` in two threads at a time would end with those
    of one of them for good, so the first thread that comes changes them, and the last puts them
    back; what others warn of meanwhile is none of its business.
    """

    def __init__(self) -> None:
        self.inside, self.lock = 0, threading.Lock()

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
                warnings.filterwarnings("ignore", module=rf"PIL\b|{re.escape(__name__)}$")
            self.inside += 1

    def __exit__(self, *_exception: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.filters.__exit__(None, None, None)


_QUIETLY = _Quietly()


def to_rgb(image: Image) -> Image:
    """An image of Pillow's, of any mode, as it looks on a white ground.   -> mode RGB"""
    from PIL import Image

    if 0 in image.size:
        raise _UnusableError(f"it is {image.height}×{image.width} pixels; expected at least 1×1")
    tile = getattr(image, "tile", None)  # where a file has its pixels, and in which form
    coded = str(tile[0][3]) if image.format == "PNG" and tile else ""
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    transparent = image.info.get("transparency")
    if coded == "RGB;16B" and transparent is not None:  # of which Pillow keeps the upper 8 bits
        raise _UnusableError(
            "it is a PNG of 16 bits with a transparent color; save it with an alpha channel"
        )
    if coded in ("L;2", "L;4") and transparent is not None:  # Pillow scales the pixels only
        image.info["transparency"] = transparent * {"L;2": 85, "L;4": 17}[coded]
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _eight_bits(image: Image) -> np.ndarray:
    """The grays, uint8 (H, W), of an image with more than eight bits a pixel."""
    gray = np.asarray(image)
    # NumPy before 2.2 may crash in `where` with numbers in another byte order.
    gray = gray.astype(gray.dtype.newbyteorder("="), copy=False)
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if image.mode == "F":
        low, high = gray.min(), gray.max()
        if not (low >= 0 and high <= 1):
            raise _UnusableError(f"its floats go from {low:g} to {high:g}; expected 0 to 1")
        bits = np.rint(gray * 255).astype(np.uint8)
    elif image.format not in (SIXTEEN_BITS if image.mode != "I" else ("PNG", "PPM", None)):
        raise _UnusableError(
            f"its numbers (mode {image.mode} of Pillow) have no fixed range; save it with 8 or "
            "unsigned 16 bits a pixel"
        )
    else:
        low, high = gray.min(), gray.max()
        if not 0 <= low <= high <= 65535:
            raise _UnusableError(f"its numbers go from {low} to {high}; expected 0 to 65535")
        used = tags.get(258, (16,))[0]  # BitsPerSample: 12 or 16
        bits = (gray >> (used - 8)).astype(np.uint8)
    if tags.get(262) == 0:  # PhotometricInterpretation: white is zero
        bits = 255 - bits
    return np.where(gray == image.info.get("transparency", -1), np.uint8(255), bits)


def _upright(file: Image, image: Image) -> Image:
    """`image` turned as the camera that took it says in the file's EXIF data."""
    from PIL.Image import Transpose

    try:
        turn = {
            2: Transpose.FLIP_LEFT_RIGHT,
            3: Transpose.ROTATE_180,
            4: Transpose.FLIP_TOP_BOTTOM,
            5: Transpose.TRANSPOSE,
            6: Transpose.ROTATE_270,
            7: Transpose.TRANSVERSE,
            8: Transpose.ROTATE_90,
        }.get(file.getexif().get(0x0112, 1))
    except Exception:  # damaged: as every viewer does, show what is there
        return image
    return image if turn is None else image.transpose(turn)


def _fit(image: Image, size: Sequence[int], crop: float | None) -> np.ndarray:
    from PIL import ImageOps
    from PIL.Image import Resampling

    height, width = size
    if crop is None:
        return np.asarray(ImageOps.fit(image, (width, height), Resampling.BICUBIC))
    (w, h), (wide, high) = image.size, (int(n / crop) for n in (width, height))
    narrow = w * height < h * width
    shape = (wide, h * wide // w) if narrow else (w * high // h, high)
    resized = image.resize(shape, Resampling.BICUBIC)
    left, top = (round((n - m) / 2) for n, m in zip(resized.size, (width, height), strict=True))
    return np.asarray(resized.crop((left, top, left + width, top + height)))
