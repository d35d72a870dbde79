"""RNNs by their embeddings: an index to search, a map to look at, a report of an experiment."""
