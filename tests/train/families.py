"""Every family of networks, so small that training one takes a moment."""

from minimix.models import FAMILIES

SMALL = {
    "convmixer": {"hidden_dim": 8, "depth": 1, "kernel_size": 3, "patch_size": 4},
    "vit": {"hidden_dim": 8, "depth": 1, "n_heads": 2, "patch_size": 4},
    "resmlp": {"hidden_dim": 8, "depth": 1, "patch_size": 4},
    "mlp_mixer": {"hidden_dim": 8, "depth": 1, "patch_size": 4},
    "resnet": {"depth": 8, "width": 4},
}
SMALL = {name: SMALL[name] for name in FAMILIES}
