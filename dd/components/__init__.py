"""What models, data sets, optimizers, initializations and normalizations must offer."""
