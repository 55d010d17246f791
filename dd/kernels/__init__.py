"""Compiled training on a CPU: whole stretches of steps of one run without returning to Python.

The same arithmetic as :mod:`dd.network` and :mod:`dd.optim`, which stay as the path of all other cases and as the
oracle of the tests. A run is trained by itself, so its numbers cannot depend on its neighbours. The code is compiled by
Numba at the first call and kept on disk.
"""
