"""The text of ``--help``, made from the axes and the files of ``conf/``."""

from __future__ import annotations

from collections.abc import Sequence

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


def help_text(typed: Sequence[str] = ()) -> str:
    """Usage, groups with their choices and options, axes and settings, each with default, unit and range.

    Args:
        typed: the command line; where it chooses components (``optimizer=adam``), the text is about those alone.
    """
    chosen = _chosen(typed)
    lines = [] if chosen else [HEAD]
    for group in GROUPS:
        names = chosen.get(group, ())
        if chosen and not names:
            continue
        lines.append(f"{group}=...")
        for choice in choices(group):
            if not names or choice.name in names:
                lines += _described(choice)
        lines.append("")
    if chosen:
        return "\n".join([*lines, "python -m dd.run --help lists every key"])
    lines += ["measure=...", *map(_choice_line, choices("measure")), ""]
    lines += ["axes", *(_axis_line(axis.key, axis, default) for axis, default in axes()), ""]
    lines += ["budget, place and way", *(_axis_line(axis.key, axis, default) for axis, default in settings()), ""]
    lines.append("+experiment=... (presets; run them with -m; python -m dd.presets says more)")
    lines += map(_choice_line, choices("experiment"))
    lines += ["", "scale=... (of the study's presets: those that build on _random_features or _two_layer)"]
    lines += map(_choice_line, choices("scale"))
    return "\n".join([*lines, "", TAIL])


def _chosen(typed: Sequence[str]) -> dict[str, list[str]]:
    """Components that a command line names, by group."""
    pairs = (argument.partition("=")[::2] for argument in typed)
    return {key: value.split(",") for key, value in pairs if key in GROUPS and value}


def _described(choice: Choice) -> list[str]:
    """A component with its options, and what it sets."""
    lines = [_choice_line(choice)]
    lines += [f"  {_axis_line(key, axis, axis.default)}" for key, axis in choice.options.items()]
    if choice.sets:
        lines.append("    sets " + ", ".join(f"{key}={shown(value)}" for key, value in choice.sets.items()))
    return lines


def _choice_line(choice: Choice) -> str:
    return f"  {choice.name:<24} {choice.description}"


def _axis_line(key: str, axis: Axis, default: object) -> str:
    return f"  {key:<24} {axis.help}; {axis.allowed().removeprefix('must be ')}; default {shown(default)}"
