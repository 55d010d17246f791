"""The text of ``--help``, made from the axes and the files of ``conf/``."""

from __future__ import annotations

from functools import cache

from omegaconf import OmegaConf

from dd.axis import Axis
from dd.config import SETTINGS, core_axes
from dd.registry import ROOMS
from dd.task import conf_dir

HEAD = """\
dd: a laboratory for double descent

    python -m dd.run                                                   one run at the defaults
    python -m dd.run -m 'width=range(10,2000,50)' optimizer=sgd,adam   a sweep (quote it: the shell owns parentheses)
    make figures                                                       draw every table in results/

Set a key with key=value; with -m a comma list or range(start,stop,step) sweeps it. Rows go to
<results_dir>/<name>/runs/*.parquet; what is there is not computed again.
"""

TAIL = """\
More: --cfg job prints the composed configuration, --hydra-help Hydra's own options; docs/ describes every column.
"""

PRESETS = ("experiment", "measure", "scale")
"""Groups of ``conf/`` whose files are no components."""


def _described(group: str) -> list[tuple[str, str]]:
    """(name, first comment) of each file of a group."""
    found = []
    for path in sorted((conf_dir() / group).glob("[!_]*.yaml")):
        comments = [
            x[1:].strip()
            for x in path.read_text(encoding="utf-8").splitlines()
            if x.startswith("#") and "@package" not in x
        ]
        found.append((path.stem, comments[0] if comments else ""))
    return found


def _axis_line(axis: Axis) -> str:
    return f"  {axis.key:<24} {axis.help}; {axis.allowed().removeprefix('must be ')}"


@cache
def known_keys() -> tuple[str, ...]:
    """Every key that can be set: groups, axes, settings, and the options of every component."""
    keys = {*ROOMS, *PRESETS} | {a.key for a in core_axes().values()} | {a.key for a in SETTINGS}
    for group in ROOMS:
        for path in (conf_dir() / group).glob("*.yaml"):
            keys |= set(_options(group, path.stem))
    return tuple(sorted(keys))


def help_text() -> str:
    """Usage, groups with their choices, axes with unit and range."""
    lines = [HEAD]
    for group in ROOMS:
        lines.append(f"{group}=...")
        for name, description in _described(group):
            lines.append(f"  {name:<24} {description}")
            options = [k.split(".", 1)[1] for k in _options(group, name)]
            if options:
                lines.append(f"  {'':<24}   options: " + ", ".join(f"{group}.{o}" for o in options))
        lines.append("")
    lines.append("measure=...")
    lines += [f"  {name:<24} {description}" for name, description in _described("measure")]
    lines.append("")
    lines.append("axes")
    lines += [_axis_line(a) for name, a in core_axes().items() if name not in ROOMS]
    lines.append("")
    lines.append("budget, place and way")
    lines += [_axis_line(a) for a in SETTINGS]
    lines.append("")
    lines.append("+experiment=... (presets; run them with -m)")
    lines += [f"  {name:<24} {text.split(' python -m')[0]}" for name, text in _described("experiment")]
    lines.append("")
    lines.append("scale=... (of the study's presets: those that build on _random_features or _two_layer)")
    lines += [f"  {name:<24} {description}" for name, description in _described("scale")]
    return "\n".join([*lines, "", TAIL])


def _options(group: str, name: str) -> list[str]:
    body = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{name}.yaml"))
    own = body.get(group, body) if isinstance(body, dict) else {}
    common = {a.key for a in core_axes().values()} | {"name"}
    return [f"{group}.{k}" for k in own if k not in common and f"{group}.{k}" not in common]
