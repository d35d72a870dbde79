"""A folder of anyone's RNNs, compared and drawn: what `rnnatlas explore` does."""
