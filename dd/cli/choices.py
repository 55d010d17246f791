"""What a user can choose from: groups and their choices, options with defaults, axes and settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dd.cli.conf import conf_dir, content_of
from dd.runs import registry
from dd.runs.axis import Axis
from dd.runs.run import core_axes
from dd.runs.settings import setting_axes, value_at

PRESETS = ("experiment", "measure", "scale")
"""Groups of ``conf/`` whose files are no components."""


@dataclass(frozen=True)
class Choice:
    """One choice of a group.

    Attributes:
        name: the file of the group, and the component.
        description: the first comment of the file.
        options: options of the component by their full keys.
        sets: what it sets beside its own options, by the full keys.
    """

    name: str
    description: str
    options: Mapping[str, Axis]
    sets: Mapping[str, object]


def choices(group: str) -> list[Choice]:
    """The choices of a group, by name."""
    found = []
    for path in sorted((conf_dir() / group).glob("[!_]*.yaml")):
        options: dict[str, Axis] = {}
        sets: dict[str, object] = {}
        if group in registry.GROUPS:
            axes = registry.kind(group, path.stem).axes().values()
            options = {f"{group}.{axis.key}": axis for axis in axes}
            sets = dict(_sets(group, path, options))
        found.append(Choice(path.stem, described(path), options, sets))
    return found


def _sets(group: str, path: Path, options: Mapping[str, Axis]) -> Iterator[tuple[str, object]]:
    """What a component's file sets beside its options; null says that there is nothing to set."""
    content = content_of(path)
    is_global = isinstance(content.get(group), Mapping)
    for key, value in content.items():
        full = key if is_global else f"{group}.{key}"
        if key == "defaults" and isinstance(value, list):
            for entry in (entry for entry in value if isinstance(entry, dict)):
                yield from ((str(k).rpartition("/")[2], v) for k, v in entry.items())
        elif full not in options and key not in (group, "name") and value is not None:
            yield full, value


def described(path: Path) -> str:
    """The first comment of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = (line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line)
    return next(comments, "")


def axes() -> list[tuple[Axis, object]]:
    """Every axis of a run that is no component, and its default in ``conf/config.yaml``."""
    return _with_defaults([axis for name, axis in core_axes().items() if name not in registry.ROOMS])


def settings() -> list[tuple[Axis, object]]:
    """Every setting, and its default in ``conf/config.yaml``."""
    from dd.trainers.table import NAMES

    known = (replace(axis, choices=NAMES) if axis.key == "trainer" else axis for axis in setting_axes())
    return _with_defaults(list(known))


def _with_defaults(axes: Sequence[Axis]) -> list[tuple[Axis, object]]:
    content = content_of(conf_dir() / "config.yaml")
    return [(a, a.default if a.key.startswith("measure.") else value_at(content, a.key)) for a in axes]


def shown(value: object) -> str:
    """A value as it is typed.

    >>> shown(None), shown(True), shown(1e-05), shown("")
    ('null', 'true', '1e-05', "''")
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"


def known_keys() -> tuple[str, ...]:
    """Every key that can be set: groups, axes, settings, and the options of every component."""
    keys = {*registry.GROUPS, *PRESETS, *(axis.key for axis in (*core_axes().values(), *setting_axes()))}
    return tuple(sorted(keys | {key for key, _ in registry.option_axes(tuple(registry.GROUPS))}))


OTHER_WORDS = {
    "learning_rate": "lr", "step_size": "lr", "eta": "lr", "bs": "batch_size", "batch": "batch_size",
    "n_steps": "steps", "iterations": "steps", "updates": "steps", "max_steps": "steps", "n_epochs": "epochs",
    "workers": "n_jobs", "preset": "experiment", "dataset": "data", "optim": "optimizer", "n": "data.n_train",
}  # fmt: skip
"""What others call a key."""


def hint(key: str) -> str:
    """What is meant by a key that there is not, or not there.

    >>> hint("learning_rate"), hint("optimizer.lr"), hint("widht")
    ('did you mean lr?', 'did you mean lr?', 'did you mean width?')
    >>> hint("model.rotary"), hint("zzz")
    ('it is an option of model=rmt', 'python -m dd.run --help lists the keys')
    """
    if having := registry.owners(key):
        return f"it is an option of {having}"
    known, last = known_keys(), key.rpartition(".")[2]
    word = OTHER_WORDS.get(last, last)
    near = [one for one in known if word in (one, one.rpartition(".")[2])][:3]
    if not near:

        def likeness(one: str) -> float:
            pairs = ((key, one), (last, one.rpartition(".")[2]))
            return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

        likely = sorted(((likeness(one), one) for one in known), reverse=True)
        near = [one for ratio, one in likely[:2] if ratio >= 0.7 and ratio > likely[0][0] - 0.1]
    return f"did you mean {' or '.join(near)}?" if near else "python -m dd.run --help lists the keys"
