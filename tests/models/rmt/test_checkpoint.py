"""Files of the released code's layout, written here."""

from __future__ import annotations

import argparse
import resource
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dd.models.rmt.architecture import Architecture
from dd.models.rmt.backbone import RMT
from dd.models.rmt.checkpoint import load_checkpoint

SMALL = Architecture(
    channels=3,
    classes=5,
    dims=(8, 16),
    depths=(1, 2),
    heads=(2, 2),
    ratios=(3, 3),
    stem_strides=(2, 1, 2, 1),
    decay_ranges=(4, 6),
    whole=(False, True),
    projection=32,
    layer_scale=(None, 1e-6),
)


def drawn(architecture: Architecture = SMALL, seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return RMT(architecture).state_dict()


def released(path: Path, state: dict[str, Tensor], **more: object) -> Path:
    torch.save({"model": state, "optimizer": {"state": {}}, "epoch": 299, "max_accuracy": 84.1, **more}, path)
    return path


def target(architecture: Architecture = SMALL) -> RMT:
    torch.manual_seed(0)
    return RMT(architecture)


def holds(model: RMT, state: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    return all(torch.equal(own[key], value) for key, value in state.items() if key in own)


def test_a_released_file_is_loaded_whole(tmp_path: Path) -> None:
    state, model = drawn(), target()
    found = load_checkpoint(model, released(tmp_path / "a.pth", state, args=argparse.Namespace(lr=1e-3, model="S")))
    assert holds(model, state)
    assert (found.missing, found.unexpected) == ((), ())


def test_the_moving_average_is_loaded_on_request(tmp_path: Path) -> None:
    state, average, model = drawn(), drawn(seed=2), target()
    path = released(tmp_path / "a.pth", state, model_ema={f"module.{k}": v for k, v in average.items()})
    load_checkpoint(model, path, ema=True)
    assert holds(model, average)
    with pytest.raises(ValueError, match="holds no weights under 'model_ema'"):
        load_checkpoint(model, released(tmp_path / "b.pth", state), ema=True)


def test_bare_state_dicts_and_prefixes_of_parallel_training_are_loaded(tmp_path: Path) -> None:
    state, model = drawn(), target()
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "a.pth")
    load_checkpoint(model, tmp_path / "a.pth")
    assert holds(model, state)


def test_recomputable_buffers_may_be_missing(tmp_path: Path) -> None:
    state = {key: value for key, value in drawn().items() if "Relpos" not in key}
    model = target()
    assert load_checkpoint(model, released(tmp_path / "a.pth", state)).missing == ()
    assert holds(model, state)


def test_the_release_of_december_2023_is_recognised(tmp_path: Path) -> None:
    state = {k: v for k, v in drawn().items() if not k.startswith("proj.") and ".ffn.dwconv." not in k}
    state["head.weight"] = torch.zeros(5, 16)
    for key in ("weight", "bias", "running_mean", "running_var"):
        state[f"norm.{key}"] = torch.zeros(16)
    model = target()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="release of December 2023"):
        load_checkpoint(model, released(tmp_path / "a.pth", state))
    assert holds(model, before)


def test_the_head_of_token_labelling_is_left_out_with_a_warning(tmp_path: Path) -> None:
    state, model = drawn(), target()
    auxiliary = {"aux_head.weight": torch.zeros(5, 32), "aux_head.bias": torch.zeros(5)}
    with pytest.warns(UserWarning, match="token labelling; its aux_head is left out"):
        found = load_checkpoint(model, released(tmp_path / "a.pth", {**state, **auxiliary}))
    assert found.unexpected == ("aux_head.weight", "aux_head.bias")
    assert holds(model, state)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"dims": (16, 32)}, r"has dims=\(16, 32\); the model has dims=\(8, 16\)"),
        ({"depths": (1, 4)}, r"has depths=\(1, 4\); the model has depths=\(1, 2\)"),
        ({"classes": 7, "depths": (2, 2)}, r"has depths=\(2, 2\), classes=7; the model has depths=\(1, 2\), classes=5"),
        ({"channels": 1}, "has channels=1; the model has channels=3"),
        ({"heads": (2, 4)}, r"has heads=\(2, 4\)"),
        ({"projection": 64}, r"proj.weight has shape \(64, 16\), the model's \(32, 16\)|norm.*|head.*"),
        ({"decay_ranges": (4, 5)}, "layers.1.Relpos.decay differs from what follows from the model's architecture"),
    ],
)
def test_a_file_of_another_architecture_is_refused_in_one_line(
    change: dict[str, object], line: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        load_checkpoint(target(), released(tmp_path / "a.pth", drawn(replace(SMALL, **change))))
    assert "\n" not in str(caught.value)


def test_missing_weights_are_refused_unless_asked_for(tmp_path: Path) -> None:
    state = drawn()
    lacking = ("head.bias", "norm.running_var")
    partial = {key: value for key, value in state.items() if key not in lacking}
    path, model = released(tmp_path / "a.pth", {**partial, "extra": torch.zeros(1)}), target()
    with pytest.raises(ValueError, match=r"lacks 2 entries, norm\.running_var, head\.bias; strict=False"):
        load_checkpoint(model, path)
    found = load_checkpoint(model, path, strict=False)
    assert (set(found.missing), found.unexpected) == (set(lacking), ("extra",))
    assert holds(model, partial)


class Foreign:
    """A class that torch.load must not run."""


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"model": drawn(), "args": Foreign()}, "cannot be read as weights alone"),
        ([1, 2], r"holds no weights under 'model' \(it holds: list\)"),
        ({"state": 3}, r"holds no weights under 'model' \(it holds: state\)"),
        ({"conv1.weight": torch.zeros(2)}, "holds none of RMT's entries but conv1.weight"),
    ],
)
def test_other_files_are_refused_in_one_line(content: object, line: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=line) as caught:
        load_checkpoint(target(), tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_damaged_file_is_refused_in_one_line(kept: float, tmp_path: Path) -> None:
    torch.save({"model": target().state_dict()}, tmp_path / "a.pth")
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"a\.pth: (is damaged|cannot be read)") as caught:
        load_checkpoint(target(), tmp_path / "a.pth")
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(target(), tmp_path / "b.pth")


def test_a_file_that_torch_did_not_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text("no weights")
    with pytest.raises(ValueError, match="cannot be read as weights alone"):
        load_checkpoint(target(), tmp_path / "a.pth")


def refused(path: Path) -> str:
    """The line by which a file is refused; the net stays as it was."""
    model = target()
    with pytest.raises(ValueError, match=r".") as caught:
        load_checkpoint(model, path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert holds(model, target().state_dict())
    return line


@pytest.mark.parametrize("zipped", [True, False])
def test_a_flipped_bit_anywhere_is_refused_or_does_no_harm(zipped: bool, tmp_path: Path) -> None:
    """IndexError, KeyError, TypeError, AttributeError and others came through; flipped weights were loaded."""
    state, path = drawn(), tmp_path / "a.pth"
    torch.save({"model": state}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    refusals = 0
    places = range(3, 6000, 67) if zipped else range(100, 3000, 31)
    for at in (*places, len(content) // 2, len(content) - 40):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x21]) + content[at + 1 :])
        model = target()
        try:
            load_checkpoint(model, path)
        except ValueError:
            refusals += 1
            refused(path)
        else:
            assert holds(model, state) or not zipped
    assert refusals > 30


def test_a_flipped_weight_is_told_by_its_checksum(tmp_path: Path) -> None:
    state = drawn()
    state["head.bias"] = torch.full((5,), 1234.5)
    path = released(tmp_path / "a.pth", state)
    content = bytearray(path.read_bytes())
    content[content.index(state["head.bias"].numpy().tobytes()) + 1] ^= 1
    path.write_bytes(content)
    assert "checksum of its entry" in refused(path)


def rewritten(path: Path, change: Callable[[str, bytes], bytes], *, compressed: bool = False) -> Path:
    """The same archive with other contents."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in entries:
            archive.writestr(name, change(name, content))
    return path


def test_files_that_claim_more_than_they_hold_take_no_memory(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bomb = rewritten(released(tmp_path / "a.pth", drawn()), lambda _, content: content * 2, compressed=True)
    assert "compressed archive" in refused(bomb)
    hostile = b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x7f\x85R."
    path = rewritten(
        released(tmp_path / "b.pth", drawn()), lambda name, content: hostile if name.endswith("data.pkl") else content
    )
    assert "a bytearray" in refused(path)
    # a tensor of 8 GB on a record of 5 kB
    torch.save({"w": torch.zeros(1234)}, tmp_path / "c.pth")
    path = rewritten(tmp_path / "c.pth", lambda _, content: content.replace(b"M\xd2\x04", b"J\xff\xff\xff\x7f"))
    assert "is damaged" in refused(path)
    torch.save({"w": torch.zeros(1234)}, tmp_path / "d.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "d.pth").read_bytes()
    (tmp_path / "d.pth").write_bytes(content.replace(b"M\xd2\x04", b"J\xff\xff\xff\x7f"))
    assert "is damaged" in refused(tmp_path / "d.pth")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (torch.zeros(5, dtype=torch.int64), "head.bias is torch.int64, the model's torch.float32"),
        (torch.zeros(5, dtype=torch.complex64), "holds no weights under 'model'"),
        (torch.zeros(5).to_sparse(), "holds no weights under 'model'"),
        (torch.zeros(5, device="meta"), "holds no weights under 'model'"),
    ],
)
def test_entries_that_are_no_weights_are_refused(entry: Tensor, line: str, tmp_path: Path) -> None:
    assert line in refused(released(tmp_path / "a.pth", drawn() | {"head.bias": entry}))


def test_entries_without_names_are_refused(tmp_path: Path) -> None:
    torch.save({3: torch.zeros(2)}, tmp_path / "a.pth")
    assert "holds no weights under 'model' (it holds: int)" in refused(tmp_path / "a.pth")
    (tmp_path / "b.pth").mkdir()
    assert "is damaged or not a file of torch (IsADirectoryError)" in refused(tmp_path / "b.pth")


def test_half_precision_is_loaded(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() and "Relpos" not in k else v for k, v in drawn().items()}
    model = target()
    load_checkpoint(model, released(tmp_path / "a.pth", state))
    assert torch.equal(model.state_dict()["head.weight"], state["head.weight"].float())
