"""Optimizers: packed update rules, one file each, and the names of the closed forms.

An update rule acts on the flat parameters of a whole stack, [runs, parameters], with hyper-parameters of shape
[runs, 1]; its arithmetic is that of ``torch.optim``.
"""
