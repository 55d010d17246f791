"""Normalisations of the features that the read-out sees: one file each."""
