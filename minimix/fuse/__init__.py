"""fuse(model): the same model in fewer passes over memory, several layers in one operation.

Activations do not fit into a cache, so a layer that reads and writes all of them for a handful of
multiplications mostly waits. Fused layers share a pass, and save less for the backward pass.

    convmixer.py  convolution, activation, norm: ConvMixer
    layernorm.py  the same with layer norm
    resnet.py     convolution, batch norm, activation, and what is added: ResNet
    tokens.py     norm, linear maps, GELU or attention, and what is added: ViT, ResMLP, MLP-Mixer
    layers.py     what they share

First come the models, which decide whether all this applies, then the operations; the passes
themselves are kernels.
"""

from typing import Any

from ..models import ConvMixer, MLPMixer, ResMLP, ResNet, ViT
from ..nn.module import Module
from .convmixer import FusedConvMixer as FusedConvMixer
from .convmixer import fused_blocks as fused_blocks
from .convmixer import fused_embedding as fused_embedding
from .layernorm import fused_layer_embedding as fused_layer_embedding
from .resnet import FusedResNet as FusedResNet
from .resnet import fused_residuals as fused_residuals
from .tokens import FusedMLPMixer as FusedMLPMixer
from .tokens import FusedResMLP as FusedResMLP
from .tokens import FusedViT as FusedViT
from .tokens import fused_attention as fused_attention
from .tokens import fused_mlp as fused_mlp
from .tokens import fused_token_map as fused_token_map
from .tokens import fused_token_mlp as fused_token_mlp

FUSED: dict[Any, Any] = {
    ConvMixer: FusedConvMixer,
    ResNet: FusedResNet,
    ViT: FusedViT,
    ResMLP: FusedResMLP,
    MLPMixer: FusedMLPMixer,
}


def fuse(model: Module) -> Module:
    """A faster model that shares everything with `model`, and gives the same numbers.

    What is fused are the blocks of a ConvMixer, and the stem before them where it is a patch
    embedding; batch norm or layer norm, exact GELU or ReLU, whichever it has throughout. And of a
    ResNet the convolutions with batch norm and ReLU after them, and whole blocks. And the residual
    branches of a ViT, a ResMLP or an MLP-Mixer, with exact GELU. Any other model is returned as it
    is.

    The two are one model with two ways to run: what is assigned, loaded, trained, frozen or
    switched to evaluation in one is so in the other. Numbers differ by rounding only. Where the
    fused operations do not apply, the layers run one by one as in `model`: with batch norms in
    different modes, gradients in evaluation, layers of another kind, parameters or statistics of
    another precision, inside an `nn.observe` block.

    Errors: TypeError where `model` is not a Module.
    """
    if not isinstance(model, Module):
        raise TypeError(f"fuse: model is a {type(model).__name__}; expected a Module")
    for plain, fused in FUSED.items():
        if isinstance(model, plain) and type(model).forward is plain.forward:
            return fused(model)
    return model
