"""Samples that a user brings: arrays of every kind (:mod:`dd.samples.arrays`) and files (:mod:`dd.samples.files`)."""
