"""The figure of the train loss beside its rivals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from analysis.rival_plot import KINDS, draw_rivals


def table(shift: float) -> pd.DataFrame:
    values = {column: [0.9 - shift, 0.7, np.nan] for column, *_ in KINDS}
    ends = {f"{c}{end}": np.array(v) + d for c, v in values.items() for end, d in (("_low", -0.1), ("_high", 0.05))}
    return pd.DataFrame({"quantity": ["train loss", "steps", "κ of the features"]} | values | ends)


@pytest.mark.parametrize("count", [1, 3])
def test_each_estimate_stands_at_its_value_with_its_interval(count: int) -> None:
    figure = draw_rivals([(f"random features, problem {i}", table(0.1 * i)) for i in range(count)])
    panels = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title() for ax in panels] == [f"Random features, problem {i}" for i in range(count)]
    for i, ax in enumerate(panels):
        for column, _, marker, colour in KINDS:
            marks = [x for x in ax.lines if x.get_marker() == marker and to_hex(x.get_color()) == colour.lower()]
            assert sorted(float(x.get_xdata()[0]) for x in marks) == pytest.approx(sorted([0.9 - 0.1 * i, 0.7])), column
        ends = {tuple(np.round(x.get_xdata(), 6)) for x in ax.lines if x.get_marker() == "None"}
        assert {(0.6, 0.75)} <= ends
    plt.close(figure)
