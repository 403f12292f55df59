"""Pictures of every mode and format that Pillow reads: the right pixels, or one clear line."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import PIL
import pytest
from mutate import mutations
from PIL import Image, ImageCms

from minimix.data import pictures
from minimix.data.pictures import read, to_rgb
from minimix.errors import DataError


def seen(tmp_path, content, size):
    """The pixels of a file with this content."""
    path = tmp_path / "picture"
    path.write_bytes(content)
    return read(path, size)


def refusal(path, size=(4, 4)):
    """The one line with which a file is refused."""
    with pytest.raises(DataError) as caught:
        read(path, size)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"cannot read {path}: ")
    return line


def encoded(image, kind, **options):
    """The bytes of a file of Pillow's format `kind`."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def can_write(kind):
    Image.init()
    return kind in Image.SAVE


def whole(image, kind):
    """As `encoded`, if this version of Pillow writes such files and can read them again."""
    try:
        content = encoded(image, kind)
        Image.open(io.BytesIO(content)).load()
    except (KeyError, OSError) as error:
        pytest.skip(f"Pillow {PIL.__version__} and {kind} of mode {image.mode}: {error}")
    return content


# ------------------------------------------------------------------ modes

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLORS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
ALPHA = np.where(RAMP % 2, 255, 0).astype(np.uint8)
ON_WHITE = np.where(ALPHA[..., None] == 0, 255, COLORS)


def gray(values):
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


def with_palette(mode):
    """An image whose value v is the color (v, 255 − v, v // 2), every other one transparent."""
    image = Image.fromarray(RAMP).convert("P")
    image.putdata(RAMP.ravel().tolist())
    image.putpalette([c for v in range(256) for c in (v, 255 - v, v // 2)])
    if mode == "PA":
        image = image.convert("PA")
        image.putalpha(Image.fromarray(ALPHA))
    return image


PALETTE = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=2)
WORDS = (RAMP.astype(np.uint16) << 8) + 77  # whose upper eight bits are RAMP


def band(mode, *bands):
    return Image.merge(mode, [Image.fromarray(np.ascontiguousarray(b)) for b in bands])


MODES = {
    "1": (Image.fromarray(RAMP > 99), gray(255 * (RAMP > 99))),
    "L": (Image.fromarray(RAMP), gray(RAMP)),
    "LA": (band("LA", RAMP, ALPHA), gray(np.where(ALPHA == 0, 255, RAMP))),
    "La": (band("LA", RAMP, ALPHA).convert("La"), gray(np.where(ALPHA == 0, 255, RAMP))),
    "P": (with_palette("P"), PALETTE),
    "PA": (with_palette("PA"), np.where(ALPHA[..., None] == 0, 255, PALETTE)),
    "RGB": (Image.fromarray(COLORS), COLORS),
    "RGBA": (Image.fromarray(np.dstack([COLORS, ALPHA])), ON_WHITE),
    "RGBa": (Image.fromarray(np.dstack([COLORS, ALPHA])).convert("RGBa"), ON_WHITE),
    "RGBX": (Image.fromarray(COLORS).convert("RGBX"), COLORS),
    # Without ink in K, what is left of white.
    "CMYK": (band("CMYK", *(255 - COLORS).transpose(2, 0, 1), 0 * RAMP), COLORS),
    "YCbCr": (band("YCbCr", RAMP, RAMP * 0 + 128, RAMP * 0 + 128), gray(RAMP)),
    "HSV": (band("HSV", RAMP, RAMP * 0, RAMP), gray(RAMP)),  # no saturation
    "I": (Image.fromarray(WORDS.astype(np.int32)), gray(RAMP)),
    "F": (Image.fromarray(RAMP.astype(np.float32) / 255), gray(RAMP)),
    "I;16": (Image.fromarray(WORDS), gray(RAMP)),
    "I;16B": (Image.frombytes("I;16B", (16, 16), WORDS.astype(">u2").tobytes()), gray(RAMP)),
    "I;16L": (Image.frombytes("I;16L", (16, 16), WORDS.astype("<u2").tobytes()), gray(RAMP)),
    "I;16N": (Image.frombytes("I;16N", (16, 16), WORDS.tobytes()), gray(RAMP)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode):
    image, expected = MODES[mode]
    assert image.mode == mode
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(rgb), expected)


def test_lab():
    """CIE L*a*b* through Pillow's color management: there and back again, but for rounding."""
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    smooth = np.stack([RAMP // 2 + 60, RAMP // 3 + 80, RAMP // 4 + 90], axis=2).astype(np.uint8)
    lab = ImageCms.buildTransform(*profiles, "RGB", "LAB").apply(Image.fromarray(smooth))
    assert lab.mode == "LAB"
    assert abs(np.asarray(to_rgb(lab)).astype(int) - smooth).max() <= 4


def test_no_mode_of_pillow_is_left_out():
    assert set(Image.MODES) <= set(MODES) | {"LAB"}


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png(tmp_path, mode):
    image, expected = MODES[mode]
    np.testing.assert_array_equal(seen(tmp_path, encoded(image, "PNG"), (16, 16)), expected)


TIFF = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "F", "I;16", "I;16B"]


@pytest.mark.parametrize("mode", TIFF)
def test_tiff(tmp_path, mode):
    image, expected = MODES[mode]
    np.testing.assert_array_equal(seen(tmp_path, whole(image, "TIFF"), (16, 16)), expected)


@pytest.mark.parametrize(("kind", "mode"), [
    ("BMP", "RGB"), ("BMP", "P"), ("TGA", "RGBA"), ("PPM", "RGB"), ("PPM", "L"), ("PPM", "I"),
    ("PPM", "F"), ("SGI", "RGB"), ("PCX", "P"), ("QOI", "RGBA"),
    ("GIF", "P"), ("ICO", "RGBA"), ("DDS", "RGBA"), ("BLP", "P"), ("MSP", "1"), ("XBM", "1"),
    ("SPIDER", "F"), ("JPEG2000", "I;16"), ("JPEG2000", "RGB"),
])  # fmt: skip
def test_formats_that_lose_nothing(tmp_path, kind, mode):
    image, expected = MODES[mode]
    np.testing.assert_array_equal(seen(tmp_path, whole(image, kind), (16, 16)), expected)


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width, depth, color, row, *chunks):
    """A PNG of one row."""
    header = struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunk(kind, content) for kind, content in chunks)
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


PNGS = {  # (bits, color type of the format): pixels, and which is transparent
    "1 bit": (png(4, 1, 0, b"\x50"), [0, 255, 0, 255]),
    "1 bit, 0 transparent": (png(4, 1, 0, b"\x50", (b"tRNS", b"\0\0")), [255] * 4),
    "2 bits": (png(4, 2, 0, b"\x1b"), [0, 85, 170, 255]),
    "2 bits, 1 transparent": (png(4, 2, 0, b"\x1b", (b"tRNS", b"\0\1")), [0, 255, 170, 255]),
    "4 bits, 3 transparent": (png(2, 4, 0, b"\x3c", (b"tRNS", b"\0\3")), [255, 204]),
    "8 bits, 7 transparent": (png(2, 8, 0, b"\x07\x08", (b"tRNS", b"\0\7")), [255, 8]),
    "16 bits": (png(2, 16, 0, b"\x12\x34\xff\xff"), [0x12, 0xFF]),
    "16 bits, one transparent": (
        png(2, 16, 0, b"\x12\x34\x12\x35", (b"tRNS", b"\x12\x34")),
        [255, 0x12],
    ),
    "16 bits, alpha": (png(2, 16, 4, b"\x12\x34\xff\xff\x12\x34\x00\x00"), [0x12, 255]),
    "16 bits RGB": (png(1, 16, 2, b"\x12\x34\xff\xff\x00\x80"), [[0x12, 0xFF, 0]]),
    "16 bits RGBA": (png(1, 16, 6, b"\x12\x34\xff\xff\x00\x80\x00\x00"), [[255] * 3]),
    "8 bits RGB, one transparent": (
        png(2, 8, 2, b"\1\2\3\1\2\4", (b"tRNS", b"\0\1\0\2\0\3")),
        [[255] * 3, [1, 2, 4]],
    ),
    "palette, alpha of each": (
        png(2, 8, 3, b"\0\1", (b"PLTE", b"\1\2\3\4\5\6"), (b"tRNS", b"\0\xff")),
        [[255] * 3, [4, 5, 6]],
    ),
    "palette, half transparent": (
        png(2, 8, 3, b"\0\1", (b"PLTE", b"\0\0\0\4\5\6"), (b"tRNS", b"\x80")),
        [[127] * 3, [4, 5, 6]],
    ),
}


@pytest.mark.parametrize("kind", PNGS)
def test_bit_depths_and_transparent_colors_of_png(tmp_path, kind):
    content, row = PNGS[kind]
    expected = np.broadcast_to(np.array(row).reshape(1, len(row), -1), (1, len(row), 3))
    np.testing.assert_array_equal(seen(tmp_path, content, (1, len(row))), expected)


def test_a_transparent_color_that_pillow_loses(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(png(1, 16, 2, b"\1\2\3\4\5\6", (b"tRNS", b"\1\2\3\4\5\6")))
    assert "16 bits with a transparent color; save it with an alpha channel" in refusal(path)


def tiff(bits, values, photometric=1, form=1):
    """A little-endian TIFF of one row: `values` as packed bytes; form 1: unsigned, 2, 3: float."""
    width = len(values) * 8 // bits
    entries = [
        (256, 3, width), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
        (273, 4, 8), (277, 3, 1), (278, 3, 1), (279, 4, len(values)), (339, 3, form),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries
    )
    return b"II*\0" + struct.pack("<I", 8 + len(values)) + values + table + bytes(4)


@pytest.mark.parametrize(
    ("content", "row"),
    [
        (tiff(16, struct.pack("<2H", 0x1234, 0xFFFF)), [0x12, 0xFF]),
        (tiff(16, struct.pack("<2H", 0x1234, 0xFFFF), photometric=0), [255 - 0x12, 0]),
        (tiff(8, bytes([3, 255]), photometric=0), [252, 0]),
        (tiff(12, b"\x12\x3f\xff"), [0x12, 0xFF]),
        (tiff(32, struct.pack("<3f", 0, 0.5, 1), form=3), [0, 128, 255]),
        (tiff(32, struct.pack("<3f", 0, 0.5, 1), photometric=0, form=3), [255, 127, 0]),
    ],
)
def test_bit_depths_of_tiff(tmp_path, content, row):
    np.testing.assert_array_equal(seen(tmp_path, content, (1, len(row))), gray([row]))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (tiff(32, struct.pack("<2f", 0, 200), form=3), "its floats go from 0 to 200; expected 0"),
        (tiff(32, struct.pack("<2f", -0.5, 1), form=3), "its floats go from -0.5 to 1; expected"),
        (tiff(32, struct.pack("<2f", 0, np.nan), form=3), "its floats go from nan to nan"),
        (tiff(32, struct.pack("<2I", 0, 9)), "mode I of Pillow) have no fixed range; save it with"),
        (tiff(16, struct.pack("<2h", 0, 9), form=2), "mode I of Pillow) have no fixed range"),
    ],
)
def test_numbers_of_unknown_range(tmp_path, content, line):
    path = tmp_path / "picture"
    path.write_bytes(content)
    assert line in refusal(path)


def test_sixteen_bits_of_a_measurement(tmp_path):
    cards = [
        "SIMPLE  =                    T",
        "BITPIX  =                   16",
        "NAXIS   =                    2",
        "NAXIS1  =                    2",
        "NAXIS2  =                    1",
        "END",
    ]
    content = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    path = tmp_path / "stars.fits"
    path.write_bytes(content + struct.pack(">2h", -5, 9).ljust(2880, b"\0"))
    assert "have no fixed range" in refusal(path)


def test_ppm_of_any_range(tmp_path):
    np.testing.assert_array_equal(
        seen(tmp_path, b"P2 3 1 1000 0 500 1000", (1, 3)), gray([[0, 128, 255]])
    )
    np.testing.assert_array_equal(seen(tmp_path, b"P2 2 1 15 0 15", (1, 2)), gray([[0, 255]]))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation(tmp_path, kind):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    image = seen(tmp_path, content, (8, 8))
    np.testing.assert_array_equal(image, np.broadcast_to([255, 0, 0], image.shape))


# ------------------------------------------------------------------ sizes, orientation


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 5000), (33, 31)])
def test_any_shape(tmp_path, shape):
    flat = np.broadcast_to(np.uint8([10, 200, 30]), (*shape, 3))
    for size in ((32, 32), (1, 1), (7, 20)):
        image = seen(tmp_path, encoded(Image.fromarray(flat.copy()), "PNG"), size)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, np.broadcast_to(flat[0, 0], (*size, 3)))


def test_the_middle_is_kept(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = COLORS[0, 0]
    image = seen(tmp_path, encoded(Image.fromarray(wide), "PNG"), (20, 20))
    np.testing.assert_array_equal(image, wide[:, 20:40])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_cameras_orientation(tmp_path, kind, orientation):
    """Against Pillow's own exif_transpose."""
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(COLORS[:, :8].copy()), kind, exif=exif)
    with Image.open(io.BytesIO(content)) as file:
        expected = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    np.testing.assert_array_equal(seen(tmp_path, content, expected.shape[:2]), expected)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01",  # ends inside its table: struct.error
        b"Exif\0\0nonsense",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0",  # a word as orientation
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x05\0\x01\0\0\0\x1a\0\0\0" + bytes(12),  # 0 / 0
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_leaves_the_picture_as_it_is(tmp_path, kind, exif):
    plain = Image.fromarray(COLORS)
    expected = seen(tmp_path, encoded(plain, kind), (16, 16))
    image = seen(tmp_path, encoded(plain, kind, exif=exif), (16, 16))
    np.testing.assert_array_equal(image, expected)


# ------------------------------------------------------------------ what is no picture, or damaged


def test_what_is_no_picture(tmp_path):
    path = tmp_path / "a file"
    assert "No such file" in refusal(path)
    assert "directory" in refusal(tmp_path).lower()
    for content in (b"", b"hello", b"<svg/>", b"\x89PNG", bytes(1000), b"GIF89a" + bytes(30)):
        path.write_bytes(content)
        line = refusal(path)
        assert "not a picture in a format that Pillow reads" in line or "it is damaged (" in line
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n0 moveto\n")
    assert "EPS is not supported; save it as PNG" in refusal(path)


def test_more_pixels_than_pillow_allows(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(
        png(40_000, 8, 0, b"").replace(
            chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 1, 8, 0, 0, 0, 0)),
            chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)),
        )
    )
    assert "it has more than 178,956,970 pixels" in refusal(path)


def test_pictures_read_at_the_same_time_leave_the_filters_of_warnings(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    both_inside, first_done = threading.Barrier(2, timeout=30), threading.Event()
    fit = pictures._fit

    def in_turn(*args):
        both_inside.wait()
        if threading.current_thread().name == "second":
            first_done.wait(30)
        return fit(*args)

    monkeypatch.setattr(pictures, "_fit", in_turn)
    before = list(warnings.filters)
    first, second = (
        threading.Thread(target=pictures.read, args=(tmp_path / "a.png", (4, 4)), name=name)
        for name in ("first", "second")
    )
    first.start()
    second.start()
    first.join()
    first_done.set()
    second.join()
    assert warnings.filters == before


def test_a_large_picture_is_read_without_a_warning(tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert seen(tmp_path, encoded(Image.fromarray(COLORS), "PNG"), (16, 16)).shape == (16, 16, 3)
    assert not recwarn.list


@pytest.mark.parametrize(
    "error",
    [struct.error("x"), TypeError("two\nlines"), KeyError(3), IndexError(), ZeroDivisionError("z"),
     AssertionError(), RecursionError("deep"), MemoryError(), SyntaxError("not a TIFF"),
     NotImplementedError("n"), RuntimeError("r"), UserWarning("w"), OSError("truncated")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_a_decoder_raises(tmp_path, monkeypatch, error):
    def fail(image):
        raise error

    path = tmp_path / "picture.png"
    Image.fromarray(COLORS).save(path)
    monkeypatch.setattr(pictures, "to_rgb", fail)
    assert ("not enough memory" if isinstance(error, MemoryError) else "damaged (") in refusal(path)
    for end in (KeyboardInterrupt(), SystemExit()):  # which are nobody's to catch
        error = end
        with pytest.raises(type(end)):
            read(path, (4, 4))


def corpus():
    """A small file of each format that Pillow can write, with all that may be in it."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    rgb, rgba, p = (MODES[mode][0] for mode in ("RGB", "RGBA", "P"))
    for mode in ("1", "LA", "P", "RGBA", "I;16"):
        yield f"PNG {mode}", encoded(MODES[mode][0], "PNG", exif=exif)
    yield "PNG animated", encoded(rgb, "PNG", save_all=True, append_images=[rgba, rgb])
    yield "JPEG", encoded(rgb, "JPEG", exif=exif, progressive=True)
    yield "JPEG CMYK", encoded(MODES["CMYK"][0], "JPEG")
    yield "GIF", encoded(p, "GIF", save_all=True, append_images=[rgb], transparency=3)
    for mode in ("P", "F", "I;16", "CMYK"):
        yield f"TIFF {mode}", encoded(MODES[mode][0], "TIFF", exif=exif)
    for compression in ("tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"):
        yield f"TIFF {compression}", encoded(rgb, "TIFF", compression=compression)
    for kind, image in (
        ("BMP", p), ("TGA", rgba), ("PPM", rgb), ("SGI", rgb), ("PCX", rgb),
        ("QOI", rgba), ("ICO", rgba), ("ICNS", rgba.resize((32, 32))), ("BLP", p),
        ("DDS", rgba), ("MSP", MODES["1"][0]), ("XBM", MODES["1"][0]), ("SPIDER", MODES["F"][0]),
        ("JPEG2000", rgb), ("WEBP", rgba), ("DIB", rgb), ("MPO", rgb),
    ):  # fmt: skip
        if can_write(kind):
            yield kind, encoded(image, kind)
    for pixel_format in ("DXT1", "DXT5", "BC5"):
        image = rgb if pixel_format == "BC5" else rgba
        yield f"DDS {pixel_format}", encoded(image, "DDS", pixel_format=pixel_format)
    if can_write("AVIF"):
        yield "AVIF", encoded(rgba, "AVIF", speed=10)


CORPUS = dict(corpus())


@pytest.mark.parametrize("kind", CORPUS)
def test_damaged_bytes(tmp_path, kind):
    """A picture or one line, never another error or a warning."""
    path = tmp_path / "picture"
    path.write_bytes(CORPUS[kind])
    assert read(path, (8, 8)).shape == (8, 8, 3)
    images, lines = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for content in mutations(CORPUS[kind], 150, seed=zlib.crc32(kind.encode())):
            path.write_bytes(content)
            try:
                images.append(read(path, (8, 8)))
            except DataError as error:
                lines.append(str(error))
    assert {(image.shape, image.dtype) for image in images} <= {((8, 8, 3), np.dtype(np.uint8))}
    assert lines
    assert all(line.startswith(f"cannot read {path}: ") and "\n" not in line for line in lines)
