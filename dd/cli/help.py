"""The text of ``--help``, made from the axes and the files of ``conf/``."""

from __future__ import annotations

from dd.cli.choices import Choice, axes, choices, settings, shown
from dd.runs.axis import Axis
from dd.runs.registry import GROUPS

HEAD = """\
dd: a laboratory for double descent

    python -m dd.run                                                   one run at the defaults
    python -m dd.run -m 'width=range(10,2000,50)' optimizer=sgd,adam   a sweep (quote it: the shell owns parentheses)
    python -m dd.run -m data=file data.path=my.csv data.target=price   your own data: docs/own.md
    python -m dd.run -m model=module model.path=mynets.py:make width=4,8,16   your own network: docs/own.md
    make figures                                                       draw every table in results/

Set a key with key=value; with -m a comma list or range(start,stop,step) sweeps it. Rows go to
<results_dir>/<name>/runs/*.parquet; what is there is not computed again.
"""

TAIL = """\
More: --cfg job prints the composed configuration, --hydra-help Hydra's own options; docs/ describes every column.
"""


def help_text() -> str:
    """Usage, groups with their choices and options, axes and settings, each with default, unit and range."""
    lines = [HEAD]
    for group in GROUPS:
        lines.append(f"{group}=...")
        for choice in choices(group):
            lines.append(_choice_line(choice))
            lines += [f"  {_axis_line(key, axis, axis.default)}" for key, axis in choice.options.items()]
            if choice.sets:
                lines.append("    sets " + ", ".join(f"{key}={shown(value)}" for key, value in choice.sets.items()))
        lines.append("")
    lines += ["measure=...", *map(_choice_line, choices("measure")), ""]
    lines += ["axes", *(_axis_line(axis.key, axis, default) for axis, default in axes()), ""]
    lines += ["budget, place and way", *(_axis_line(axis.key, axis, default) for axis, default in settings()), ""]
    lines.append("+experiment=... (presets; run them with -m)")
    lines += [f"  {one.name:<24} {one.description.split(' python -m')[0]}" for one in choices("experiment")]
    lines += ["", "scale=... (of the study's presets: those that build on _random_features or _two_layer)"]
    lines += map(_choice_line, choices("scale"))
    return "\n".join([*lines, "", TAIL])


def _choice_line(choice: Choice) -> str:
    return f"  {choice.name:<24} {choice.description}"


def _axis_line(key: str, axis: Axis, default: object) -> str:
    return f"  {key:<24} {axis.help}; {axis.allowed().removeprefix('must be ')}; default {shown(default)}"
