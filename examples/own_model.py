"""A network of your own: at which width does its test loss peak? Copy this file, change make, run it.

python own_model.py
"""

from pathlib import Path

from torch import nn

import dd
from analysis.figures import main as draw
from analysis.peaks import table
from analysis.tables import load_runs


def make(width, inputs, outputs):
    """Any torch.nn.Module; the outputs of its last linear layer are the network's."""
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


SWEEP = ["width=3,6,10,16,40", "optimizer=sgd,adam", "seed=0,1", "lr=0.02", "lr_unit=absolute"]
DATA = ["data.n_train=100", "data.label_noise=0.2", "data.standardize=global"]  # digits; or data=(x, y) below

if __name__ == "__main__":  # worker processes must be able to import a script
    rows = dd.sweep(*SWEEP, *DATA, "epochs=30", "batch_size=10", "name=own_model", model=make)
    print(rows.pivot_table("test_loss", "width", "optimizer", aggfunc="median"))
    peaks = table(load_runs(Path("results"), "own_model"))
    print(peaks[["condition", "decision", "location", "prominence", "threshold_counted"]].T)
    draw(["--name", "own_model", "--jobs", "1"])  # figures/own_model.png
