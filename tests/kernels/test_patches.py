import numpy as np
import pytest

from minimix.kernels import cut_patches, join_patches


def test_a_patch_is_its_pixels_row_by_row():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = cut_patches(x, 2)
    assert patches.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(patches[1, 1, 2], x[1, 2:4, 4:6].ravel())


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (0, 4, 6, 3), (1, 2, 2, 1), (3, 8, 4, 5)])
def test_joining_undoes_cutting(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    for p in (1, 2):
        np.testing.assert_array_equal(join_patches(cut_patches(x, p), p), x)
