"""Compiled training on a CPU: all runs of a pack, a whole stretch of steps, in one call.

The same arithmetic as :mod:`dd.network` and :mod:`dd.optim`, which stay as the path of all other cases and as the
oracle of the tests. The shape of every loop follows from the run alone, so its numbers cannot depend on its neighbours.
``src`` holds the C sources, compiled at installation (``hatch_build.py``).
"""
