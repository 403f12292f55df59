"""PyTorch's state dicts and weight files, transposed on the way in and out.

PyTorch keeps images as (N, C, H, W) and weights with outputs first; here channels come last. The
layer that a weight belongs to says what it looks like there:

                       here                 PyTorch
    Linear             (K, C)               (C, K)
    PointwiseConv2d    (K, C)               (C, K, 1, 1)
    DepthwiseConv2d    (k, k, C)            (C, 1, k, k)
    Patchify           (p, p, C, D)         (D, C, p, p)
    Conv2d             (k, k, C/g, D)       (D, C/g, k, k)
    Affine             (D,)                 (1, 1, D)

Other vectors are the same in both, tokens and positions of a ViT too, and so are names; those of
the models are timm's. The authors' ConvMixer numbers the layers of one Sequential instead, and
ResNets for CIFAR have `linear` and `shortcut` where timm has `fc` and `downsample`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from . import files
from .autograd import Array, Tensor
from .errors import CheckpointError
from .models import ConvMixer, ResNet, ViT
from .nn import (
    Affine,
    BatchNorm,
    Conv2d,
    DepthwiseConv2d,
    Linear,
    Module,
    Patchify,
    PointwiseConv2d,
    ReLU,
)

Turn = Callable[[Array], Array]

# How a layer's weight is turned to PyTorch's layout, and back; of those in WHOLE, all they have.
WEIGHTS: dict[type[Module], tuple[Turn, Turn]] = {
    Linear: (lambda w: w.T, lambda w: w.T),
    PointwiseConv2d: (lambda w: w.T[:, :, None, None], lambda w: w[:, :, 0, 0].T),
    DepthwiseConv2d: (
        lambda w: w.transpose(2, 0, 1)[:, None],
        lambda w: w[:, 0].transpose(1, 2, 0),
    ),
    Patchify: (lambda w: w.transpose(3, 2, 0, 1), lambda w: w.transpose(2, 3, 1, 0)),
    Conv2d: (lambda w: w.transpose(3, 2, 0, 1), lambda w: w.transpose(2, 3, 1, 0)),
    Affine: (lambda a: a[None, None], lambda a: a[0, 0]),
    ViT: (np.asarray, np.asarray),
}
WHOLE = (Affine, ViT)
DTYPES = {  # of safetensors, but for bfloat16, which NumPy does not have
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile and Lightning
COUNTERS = ("num_batches_tracked", "n_averaged")  # of batch norms, and of averaged models
RELU_SIZES = {(768, 32, 7, 7)}  # h, d, k, p of the released weights that are not of GELU


class _Entry(NamedTuple):
    """An array of a model: its shapes here and in PyTorch, and the ways there and back."""

    shape: tuple[int, ...]
    torch_shape: tuple[int, ...]
    to_torch: Turn
    from_torch: Turn


def from_torch(
    state: Mapping[str, Any],
    model: Module | None = None,
    *,
    activation: Literal["gelu", "relu"] | None = None,
) -> dict[str, Array]:
    """A PyTorch state dict in minimix's layout, for `load_state_dict`.

        model.load_state_dict(from_torch(torch.load("weights.pt"), model))

    state       tensors or arrays by name, or {"state_dict": …} around them. Prefixes `module.`,
                `_orig_mod.` and `model.` are taken off, and the counters `num_batches_tracked` and
                `n_averaged` left out; float16 and bfloat16 become float32
    model       the model that the weights are for, with PyTorch's names; left out, a ConvMixer of
                the sizes that the state dict shows. ConvMixer's names may be timm's or the authors'
    activation  what a ConvMixer's weights were trained with. Only ConvMixer-768/32 with kernels
                and patches of 7 needs it, unless `model` has ReLU: a state dict does not say, and
                the released weights of this size are of ReLU, those of the others of GELU

    Returns copies, in the order of the model. Errors: ValueError naming the first key that is not
    part of the model or has another shape; where the activation is needed, or is not the model's.
    What is missing is named by `load_state_dict`.
    """
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    arrays = _renamed(_arrays("from_torch", state), model)
    sizes = _sizes({key: array.shape for key, array in arrays.items()})
    if model is None or isinstance(model, ConvMixer):
        _check_activation(model, sizes, activation)
    model = model or _convmixer("from_torch", sizes)
    entries = _entries("from_torch", model)
    for key, array in arrays.items():
        expected = entries[key].torch_shape if key in entries else None
        _check("from_torch", key, array.shape, expected, model)
    return {
        key: np.array(entry.from_torch(arrays[key]), order="C")
        for key, entry in entries.items()
        if key in arrays
    }


def to_torch(state: Mapping[str, Array], model: Module | None = None) -> dict[str, Array]:
    """minimix's state dict in PyTorch's layout; the inverse of `from_torch`.

        theirs.load_state_dict({k: torch.tensor(v) for k, v in to_torch(state, model).items()})

    model  the model that `state` is of; left out, a ConvMixer of the sizes that `state` shows

    Returns copies. Each batch norm gets a `num_batches_tracked` of 0, which PyTorch asks for.
    Errors: ValueError naming the first key that is not part of the model, has another shape, or
    whose layout in PyTorch is not known.
    """
    arrays = _arrays("to_torch", state)
    if model is None:
        sizes = _sizes({key: array.shape[::-1] for key, array in arrays.items()})
        model = _convmixer("to_torch", sizes)
    entries = _entries("to_torch", model)
    norms = {name for name, module in model.named_modules() if isinstance(module, BatchNorm)}
    result: dict[str, Array] = {}
    for key, array in arrays.items():
        _check("to_torch", key, array.shape, entries[key].shape if key in entries else None, model)
        result[key] = np.array(entries[key].to_torch(array), order="C")
        layer, _, name = key.rpartition(".")
        if name == "running_var" and layer in norms:
            counter = f"{layer}.num_batches_tracked" if layer else "num_batches_tracked"
            result[counter] = np.zeros((), np.int64)
    return result


# ---- what a model has


def _entries(who: str, model: Module) -> dict[str, _Entry]:
    modules = dict(model.named_modules())
    entries = {}
    for key, array in model.state_dict().items():
        layer, _, name = key.rpartition(".")
        kinds = type(modules[layer]).__mro__
        there, back = next((WEIGHTS[kind] for kind in kinds if kind in WEIGHTS), (None, None))
        whole = isinstance(modules[layer], WHOLE)
        if array.ndim < 2 and not whole:
            there = back = np.asarray  # a vector
        if there is None or back is None or not (array.ndim < 2 or name == "weight" or whole):
            raise ValueError(
                f"{who}: {key!r} of shape {array.shape} is part of a {kinds[0].__name__}, whose "
                "layout in PyTorch is not known here"
            )
        entries[key] = _Entry(array.shape, there(array).shape, there, back)
    return entries


def _sizes(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """(h, d, k, p, n, C) of the ConvMixer that has such arrays; None where none has.

    shapes  in PyTorch's order, or our own backwards: the same, as far as it matters here
    """
    stem, head = shapes.get("stem.0.weight", ()), shapes.get("head.weight", ())
    numbers = [int(key.split(".")[1]) for key in shapes if re.match(r"blocks\.\d+\.", key)]
    depthwise = shapes.get("blocks.0.0.fn.0.weight", () if numbers else (1,))
    if len(stem) != 4 or len(head) != 2 or not depthwise:
        return None
    (h, c, p, _), n, k = stem, head[0], depthwise[-1]
    return h, max(numbers, default=-1) + 1, k, p, n, c


def _convmixer(who: str, sizes: tuple[int, ...] | None) -> ConvMixer:
    if sizes is None:
        raise ValueError(
            f"{who}: these are not the weights of a ConvMixer; for another model, give it as well: "
            f"{who}(state, model)"
        )
    return ConvMixer(*sizes[:5], in_channels=sizes[5])


def _check(
    who: str, key: str, shape: tuple[int, ...], expected: tuple[int, ...] | None, model: Module
) -> None:
    owner = f"this {type(model).__name__}"
    if expected is None:
        raise ValueError(f"{who}: {key!r} of shape {shape} is not part of {owner}")
    if shape != expected:
        raise ValueError(f"{who}: {key!r} has shape {shape}; {owner} has {expected} there")


def _check_activation(
    model: ConvMixer | None, sizes: tuple[int, ...] | None, activation: str | None
) -> None:
    """Refuse weights of ReLU for a model of GELU, or the other way round."""
    has_relu = model is not None and any(isinstance(m, ReLU) for _, m in model.named_modules())
    if activation is None and not has_relu and sizes and sizes[:4] in RELU_SIZES:
        raise ValueError(
            "from_torch: the released weights of ConvMixer-768/32 were trained with ReLU, which a "
            "state dict does not say. Make the model with activation='relu', or, if these are "
            "other weights, say from_torch(…, activation='gelu')"
        )
    if activation not in (None, "gelu", "relu"):
        raise ValueError(f"from_torch: activation is {activation!r}; it can be 'gelu' or 'relu'")
    if model is not None and activation not in (None, "relu" if has_relu else "gelu"):
        raise ValueError(
            f"from_torch: the weights were trained with {activation!r}, but this "
            f"{type(model).__name__} was not made with activation={activation!r}"
        )


# ---- what a state dict of PyTorch holds


def _arrays(who: str, state: Mapping[str, Any]) -> dict[str, Array]:
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{who}: state is a {type(state).__name__}; expected a state dict, as "
            "model.state_dict() returns it"
        )
    return {str(key): _array(who, str(key), value) for key, value in state.items()}


def _array(who: str, key: str, value: Any) -> Array:
    """A tensor of either kind, or an array, as an array of numbers."""
    if isinstance(value, Mapping):
        raise ValueError(f"{who}: {key!r} is a dict; if it holds the weights, pass state[{key!r}]")
    if isinstance(value, Tensor):
        value = value.array
    elif hasattr(value, "detach"):  # PyTorch's, which NumPy cannot read on a GPU or as bfloat16
        value = value.detach().cpu()
        value = (
            value.float() if value.is_floating_point() and value.element_size() < 4 else value
        ).numpy()
    array = np.asarray(value)
    if array.dtype.name in ("float16", "bfloat16"):
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{who}: {key!r} is {array.dtype}; expected real numbers")
    return array


def _renamed(arrays: dict[str, Array], model: Module | None) -> dict[str, Array]:
    """The arrays under the names of the model, which is a ConvMixer where None; no counters."""
    known = model.state_dict() if model else {}
    renamed: dict[str, Array] = {}
    for key, array in arrays.items():
        name = key
        while name not in known and name.startswith(PREFIXES):
            name = name.partition(".")[2]
        if name not in known and name.rpartition(".")[2] in COUNTERS:
            continue
        if name in renamed:
            raise ValueError(f"from_torch: {name!r} appears twice, once as {key!r}")
        renamed[name] = array
    if isinstance(model, ResNet):
        return _with_names(renamed, _of_cifar)
    numbers = [int(name.partition(".")[0]) for name in renamed if re.match(r"\d+\.", name)]
    if not numbers or not (model is None or isinstance(model, ConvMixer)):
        return renamed
    depth = max(numbers) - 5  # the authors' head is layer 5 + d
    return _with_names(renamed, lambda name: _timm_name(name, depth))


def _with_names(arrays: Mapping[str, Array], rename: Callable[[str], str]) -> dict[str, Array]:
    """The arrays by other names. Errors: ValueError where two would have the same."""
    renamed: dict[str, Array] = {}
    for key, array in arrays.items():
        name = rename(key)
        if name in renamed:
            raise ValueError(f"from_torch: {name!r} appears twice, once as {key!r}")
        renamed[name] = array
    return renamed


def _timm_name(name: str, depth: int) -> str:
    """The authors' Sequential counts stem 0–2, pool and flatten among the rest, and the blocks
    from 3: `{3+i}.0.fn.0.weight` is block i's depthwise convolution."""
    number, _, rest = name.partition(".")
    if not number.isdigit():
        return name
    layer = int(number)
    if layer < 3:
        return f"stem.{layer}.{rest}"
    return f"head.{rest}" if layer == 5 + depth else f"blocks.{layer - 3}.{rest}"


def _of_cifar(name: str) -> str:
    """timm's name of what ResNets for CIFAR call `linear` and `shortcut`."""
    return re.sub(r"^linear\.", "fc.", name).replace(".shortcut.", ".downsample.")


# ---- weight files


def load_weights(model: Module, path: Path | str, state: Mapping[str, Array] | None = None) -> None:
    """Load a .safetensors file in PyTorch's layout, such as timm's, into `model`.

        model = models.create("convmixer_768_32")
        load_weights(model, "convmixer_768_32.safetensors")

    state  what `read_safetensors` gave, where the file has been read already

    Names and precisions may be those that `from_torch` takes. All or nothing. Errors:
    CheckpointError, naming the file and the first tensor that is missing, damaged, not part of the
    model, or of another shape, which it names beside the model's.
    """
    try:
        state = from_torch(read_safetensors(path) if state is None else state, model)
        for key, entry in _entries("load_weights", model).items():
            if key not in state:
                raise ValueError(f"load_weights: {key!r} of shape {entry.torch_shape} is missing")
        model.load_state_dict(state)
    except ValueError as error:
        reason = str(error).partition(": ")[2]
        raise CheckpointError(f"{path} does not fit: {reason}") from error


def save_weights(model: Module, path: Path | str) -> None:
    """Write the weights of `model` to a .safetensors file in PyTorch's layout and timm's names.

    Errors: DiskError; ValueError where a layer's layout in PyTorch is not known.
    """
    from safetensors.numpy import save

    files.write(Path(path), save(to_torch(model.state_dict(), model), {"format": "pt"}))


def read_safetensors(path: Path | str) -> dict[str, Array]:
    """The tensors in a .safetensors file, by name; bfloat16 as float32.

    Errors: CheckpointError where there is no such file, where it is not whole (and which tensor is
    not), or where it is a model that minimix has trained, whose layout is another.
    """
    from safetensors import SafetensorError, deserialize

    try:
        content = Path(path).read_bytes()
        tensors = deserialize(content)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        damage = _damage(path, content) or error
        raise CheckpointError(f"{path} is not a whole safetensors file: {damage}") from error
    if "minimix" in read_header(path).get("__metadata__", {}):
        raise CheckpointError(f"{path} is a model that minimix has trained; `load_model` loads it")
    state = {}
    for key, tensor in sorted(tensors, key=lambda item: item[0]):
        kind, shape = tensor["dtype"], tuple(tensor["shape"])
        if kind not in (*DTYPES, "BF16"):
            can = ", ".join((*DTYPES, "BF16"))
            raise CheckpointError(f"{path}: {key!r} of shape {shape} is {kind}; it can be {can}")
        array = np.frombuffer(tensor["data"], DTYPES.get(kind, "<u2"))
        if kind == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        state[key] = array.reshape(shape)
    return state


def read_header(path: Path | str) -> dict[str, Any]:
    """What a safetensors file says of its tensors; nothing where it is none, or cannot be read."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 100_000_000)))
    except (OSError, ValueError, RecursionError):
        return {}
    good = isinstance(header, dict) and isinstance(header.get("__metadata__", {}), dict)
    return header if good else {}


def _damage(path: Path | str, content: bytes) -> str:
    """Which tensor is the first that the file ends before."""
    header, size = read_header(path), len(content) - 8 - int.from_bytes(content[:8], "little")
    try:
        tensors = [(t["data_offsets"][1], key) for key, t in header.items() if "shape" in t]
        key = min(item for item in tensors if item[0] > size)[1]
        shape, missing = tuple(header[key]["shape"]), max(tensors)[0] - size
    except (LookupError, TypeError, ValueError):
        return ""
    return f"it ends before {key!r} of shape {shape} does; {missing:,} bytes are missing"
