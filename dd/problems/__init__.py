"""Problems: from raw samples to the tensors that a run is trained and tested on."""
