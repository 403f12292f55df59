"""The names of what `retouch` can do to a picture, in either back end."""

from enum import IntEnum


class Retouch(IntEnum):
    """One operation on an image, and its parameters p."""

    NONE = 0
    FLIP = 1  # left to right
    ENLARGE = 2  # to the whole, bilinearly: from row p0 and column p1 on, p2 rows and p3 columns
    # Maps p (6): x_in = p0 x + p1 y + p2, y_in = p3 x + p4 y + p5, for pixel centres at halves
    NEAREST = 3  # each pixel from the nearest one
    BILINEAR = 4  # from the 2×2 around its origin
    BICUBIC = 5  # from the 4×4
    # Colours; p0 is
    BRIGHTNESS = 6  # a factor: 0 gives black, 1 the image, more than 1 what lies beyond
    CONTRAST = 7  # 0: the grey of its mean brightness
    SATURATION = 8  # 0: its own greys
    SHARPNESS = 9  # 0: a blurred copy
    POSTERIZE = 10  # the number of bits that are kept
    SOLARIZE = 11  # a threshold: what is at least as bright is inverted
    SOLARIZE_ADD = 12  # what is added where it is darker than 128
    INVERT = 13
    AUTOCONTRAST = 14
    EQUALIZE = 15
