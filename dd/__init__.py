"""dd: a laboratory for double descent.

``dd.sweep("width=range(10,2000,50)", "optimizer=sgd,adam")`` runs a sweep and returns its rows, with ``data=(x, y)`` on
one's own samples and with ``model=make`` on one's own networks; ``dd.load("default")`` reads a table;
``dd.plot(rows)`` draws, ``dd.peaks(rows)`` judges, ``dd.tidy(rows)`` shows what varies;
``dd.inspect(run_id)`` lays one of its runs open; ``dd.train(x, y, "model=two_layer", "width=8,64")`` trains nets on
one's own tensors. Importing the package is light; torch is loaded by the modules that compute.
"""

import os

from dd.api import curves as curves
from dd.api import inspect as inspect
from dd.api import load as load
from dd.api import peaks as peaks
from dd.api import plot as plot
from dd.api import sweep as sweep
from dd.api import tidy as tidy
from dd.api import train as train
from dd.api import verdict as verdict

__version__ = "0.1.0"

# deterministic products on a GPU need it, and torch reads it once, before its first product
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
