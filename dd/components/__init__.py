"""What models, data sets, optimizers, schedules, initializations and normalizations must offer."""
