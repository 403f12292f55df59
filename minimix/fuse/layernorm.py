"""A ConvMixer with layer norm, fused: an activation, its norm and the shortcut in one pass.

Layer norm needs only the C numbers of a pixel. So what a convolution gives is activated and
normalized, and the shortcut added, row by row: before the product that reads it, or as soon as the
product has written it.

    y = γ x̂ + β,     x̂ = (a − μ) r,     a = act(z + b),     r = 1/√(σ²+ε)

with μ and σ² those of the pixel. Saved for the backward pass are z, the convolution's result
without its bias, and the result of each block. And back, from g = dy, in one pass as well:

    dz = act′(z + b) r (h − mean(h) − x̂ mean(h x̂)),   h = γ g
    dγ = Σ g x̂     dβ = Σ g     db = Σ dz

Training and evaluation are the same. Where nobody asks for gradients, the kernel runs that keeps a
few images in cache through all blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import kernels
from ..autograd import Array, op


@op
def fused_layer_embedding(x, w, b, gamma, beta, *, eps: float, relu: bool = False):
    """Patch embedding, activation, layer norm.   x (N, H, W, C), w (p, p, C, D) -> (N, H/p, W/p, D)

        z = patches(x) w     y = γ x̂ + β of act(z + b)

        dx = patches⁻¹(dz wᵀ)     dw = patches(x)ᵀ dz

    b, γ, β (D,).
    """
    p, _, c, d = w.shape
    patches, matrix = kernels.cut_patches(x, p), w.reshape(p * p * c, d)
    rows = patches.reshape(-1, p * p * c)
    z = kernels.matmul(rows, matrix).reshape(*patches.shape[:3], d)
    norm = b, gamma, beta

    def backward(g):
        dz, dgamma, dbeta, db = kernels.act_layer_norm_backward(z, g, norm, eps, relu)
        dz = dz.reshape(-1, d)

        def dx():
            return kernels.join_patches(kernels.matmul(dz, matrix.T).reshape(patches.shape), p)

        return dx, kernels.matmul(rows.T, dz).reshape(w.shape), db, dgamma, dbeta

    return kernels.act_layer_norm(z, norm, eps, None, relu), backward


def layer_block(
    x: Array, parameters: Sequence[Array], eps: Sequence[float], relu: bool, residual: bool
) -> tuple[Array, Callable[[], Array], Callable[[Array, Array], tuple[Array, ...]]]:
    """One block: y, a function that gives it again, and its backward.

        z₁ = depthwise(x, w₁)     u = norm₁(act(z₁ + b₁)) + x        mixes places
        z₂ = u w₂                 y = norm₂(act(z₂ + b₂))            mixes channels

    u is never written to memory; z₁, z₂ and y are kept. And back, x given:

        du = dz₂ w₂ᵀ                                       dw₂ = uᵀ dz₂
        dx = dz₁ convolved with the flipped w₁ + du        dw₁ = correlate(x, dz₁)

    residual  whether x is added
    """
    w1, b1, gamma1, beta1, w2, b2, gamma2, beta2 = parameters
    norm1, norm2 = (b1, gamma1, beta1), (b2, gamma2, beta2)
    z1 = kernels.depthwise_conv2d(x, w1)
    shortcut = x if residual else None
    z2, y = kernels.mix_layer_norm(z1, norm1, eps[0], w2, norm2, eps[1], shortcut, relu)
    saved = [z2, z1]  # from where backward takes them, so that gradients can have their memory

    def backward(g, x):
        z1, z2 = saved.pop(), saved.pop()
        shortcut = x if residual else None
        du, dz1, dw2, dgamma1, dbeta1, db1, dgamma2, dbeta2, db2 = kernels.mix_layer_norm_backward(
            z2, g, norm2, eps[1], z1, norm1, eps[0], w2, shortcut, relu
        )
        del z1, z2
        dw1 = kernels.depthwise_conv2d_dw(x, dz1, len(w1))
        dx = kernels.depthwise_conv2d_dx(dz1, w1)
        if residual:
            dx += du
        return dx, dw1, db1, dgamma1, dbeta1, dw2, db2, dgamma2, dbeta2

    return y, lambda: y, backward
