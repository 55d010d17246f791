"""Measurements of a run: losses and errors, spectra and condition numbers."""
