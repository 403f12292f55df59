"""Models: ConvMixer and its rivals, one page a family."""

from .convmixer import ConvMixer as ConvMixer
from .mlp import MLPMixer as MLPMixer
from .mlp import ResMLP as ResMLP
from .resnet import ResNet as ResNet
from .sizes import FAMILIES as FAMILIES
from .sizes import create as create
from .sizes import size_of as size_of
from .sizes import sizes as sizes
from .vit import ViT as ViT
