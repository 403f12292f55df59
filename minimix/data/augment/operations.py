"""The operations that `retouch` knows, by number."""

from enum import IntEnum


class Retouch(IntEnum):
    """One operation on an image, and its parameters p."""

    NONE = 0
    FLIP = 1  # left to right
    ENLARGE = 2  # the p2 rows and p3 columns from row p0, column p1 to the whole image, bilinearly
    # Affine maps: x_in = p0 x + p1 y + p2, y_in = p3 x + p4 y + p5; pixel centers are at halves
    NEAREST = 3  # each pixel is the nearest one
    BILINEAR = 4  # interpolated from the 2×2 around its origin
    BICUBIC = 5  # from the 4×4
    # Colors; p0 is a factor: 1 leaves the image as it is, more than 1 exaggerates, and 0 gives
    BRIGHTNESS = 6  # black
    CONTRAST = 7  # the gray of the mean brightness
    SATURATION = 8  # the image in gray
    SHARPNESS = 9  # a blurred copy
    # p0 is
    POSTERIZE = 10  # the number of bits to keep
    SOLARIZE = 11  # a threshold: values of at least this are inverted
    SOLARIZE_ADD = 12  # a number to add to values below 128
    INVERT = 13
    AUTOCONTRAST = 14
    EQUALIZE = 15
