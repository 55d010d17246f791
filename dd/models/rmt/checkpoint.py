"""Weights from the files of the released code, recognised by what they hold."""

from __future__ import annotations

import argparse
import mmap
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dd.models.rmt.backbone import RMT

AUXILIARY = "aux_head."
_COMPUTED = (".Relpos.angle", ".Relpos.decay", ".num_batches_tracked")


@dataclass(frozen=True)
class Loaded:
    """What did not match when weights were loaded.

    Attributes:
        missing: entries of the model that the file lacks, apart from those that follow from the architecture.
        unexpected: entries of the file that the model lacks.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_checkpoint(model: RMT, path: str | Path, *, ema: bool = False, strict: bool = True) -> Loaded:
    """Load a released file (``model`` beside ``model_ema``, ``optimizer``, ...) or a bare state dict into a model.

    The file is read without running code from it. The head of token labelling (``aux_head``) is left out, with a
    warning.

    Args:
        model: of the same architecture; it is left as it was when an error is raised.
        path: of the file.
        ema: load ``model_ema``, the moving average of the weights, in place of ``model``.
        strict: refuse a file that lacks trained weights or running statistics.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds something else: the release of December 2023, another variant, other
            classes, other decays or, where ``strict``, too little.
    """
    path = Path(path)
    state = _state_dict(path, ema)
    if "head.weight" in state and "proj.weight" not in state and not any(".ffn.dwconv." in key for key in state):
        raise ValueError(
            f"{path}: is of the release of December 2023 (neither projection in the head nor depthwise convolutions in "
            "the feed-forward layers); this backbone is the release of June 2024"
        )
    if any(key.startswith(AUXILIARY) for key in state):
        warnings.warn(
            f"{path}: was trained with token labelling; its {AUXILIARY[:-1]} is left out, so that logits lack half the "
            "largest token logit that the released code adds",
            stacklevel=2,
        )
    own = model.state_dict()
    _check_variant(path, state, own)
    for key in sorted(state.keys() & own.keys()):
        if state[key].is_floating_point() != own[key].is_floating_point():
            raise ValueError(f"{path}: {key} is {state[key].dtype}, the model's {own[key].dtype}")
        if state[key].shape != own[key].shape:
            raise ValueError(f"{path}: {key} has shape {tuple(state[key].shape)}, the model's {tuple(own[key].shape)}")
        if ".Relpos." in key and not torch.allclose(state[key].float(), own[key].float().cpu(), rtol=1e-4, atol=1e-6):
            raise ValueError(f"{path}: {key} differs from what follows from the model's architecture")
    missing = tuple(key for key in own if key not in state and not key.endswith(_COMPUTED))
    if strict and missing:
        raise ValueError(f"{path}: lacks {len(missing)} entries, {_some(missing)}; strict=False loads the others")
    model.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)
    return Loaded(missing, tuple(key for key in state if key not in own))


def _state_dict(path: Path, ema: bool) -> dict[str, Tensor]:
    try:
        _check_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # type of the released files' args
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next(
            (line.strip() for line in str(error).splitlines() if "Unsupported" in line), "not a file of torch"
        )
        raise ValueError(f"{path}: cannot be read as weights alone ({reason})") from None
    except FileNotFoundError:
        raise
    except _Refused as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # a damaged file makes torch's reader stumble wherever it happens to be
        raise ValueError(f"{path}: is damaged or not a file of torch ({type(error).__name__})") from None
    name = "model_ema" if ema else "model"
    bare = isinstance(found, Mapping) and not ema and "model" not in found
    state = found if bare or not isinstance(found, Mapping) else found.get(name)
    if not isinstance(state, Mapping) or not state or not all(_is_weight(k, v) for k, v in state.items()):
        keys = list(found)[:6] if isinstance(found, Mapping) else [found]
        held = ", ".join(repr(k[:40])[1:-1] if isinstance(k, str) else type(k).__name__ for k in keys)
        raise ValueError(f"{path}: holds no weights under {name!r} (it holds: {held})")
    return {key.removeprefix("module."): value for key, value in state.items()}


class _Refused(ValueError):
    """What is wrong with a file, in words for the user."""


def _check_file(path: Path) -> None:
    """Make sure that a file is whole and takes no more memory than it has bytes, as far as its format tells.

    Torch's reader compares no checksums. The format before torch 1.6, no zip archive, has none.

    Raises:
        _Refused: it is not.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(b"\nbytearray\n") >= 0:
                    raise _Refused("holds more than weights (a bytearray, of any size)")
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise _Refused("is a compressed archive; torch writes its files without compression")
        if (claimed := sum(entry.file_size for entry in entries)) > size:
            raise _Refused(f"is damaged: its entries claim {claimed} bytes, it has {size}")
        if damaged := archive.testzip():
            raise _Refused(f"is damaged: the checksum of its entry {damaged.rpartition('/')[2]!r} differs")


def _is_weight(key: object, value: object) -> bool:
    """Whether an entry is a named tensor with values of its own (no meta device, not sparse, not quantised)."""
    if not isinstance(key, str) or not isinstance(value, Tensor):
        return False
    plain = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
    return plain and not value.is_complex()


def _described(state: Mapping[str, Tensor]) -> dict[str, object]:
    """What a state dict says of its architecture."""
    blocks = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.pos\.conv\.weight")
    depths: dict[int, int] = {}
    dims: dict[int, int] = {}
    heads: dict[int, int] = {}
    for key, value in state.items():
        if match := blocks.fullmatch(key):
            stage, block = map(int, match.groups())
            depths[stage] = max(depths.get(stage, 0), block + 1)
            dims[stage] = value.shape[0]
        elif match := re.fullmatch(r"layers\.(\d+)\.Relpos\.decay", key):
            heads[int(match[1])] = value.shape[0]
    found: dict[str, object] = {}
    for name, numbers in (("dims", dims), ("depths", depths), ("heads", heads)):
        if numbers:
            found[name] = tuple(numbers[stage] for stage in sorted(numbers))
    for name, key, axis in (("classes", "head.weight", 0), ("channels", "patch_embed.proj.0.weight", 1)):
        if key in state and state[key].ndim > axis:
            found[name] = state[key].shape[axis]
    return found


def _check_variant(path: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    theirs, ours = _described(state), _described(own)
    if not theirs:
        raise ValueError(f"{path}: holds none of RMT's entries but {_some(tuple(state))}")
    differing = [name for name in theirs if theirs[name] != ours[name]]
    if differing:
        raise ValueError(
            f"{path}: has "
            + ", ".join(f"{name}={theirs[name]}" for name in differing)
            + "; the model has "
            + ", ".join(f"{name}={ours[name]}" for name in differing)
        )


def _some(keys: tuple[str, ...]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
