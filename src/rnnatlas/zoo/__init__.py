"""Many trained RNNs: training them, keeping them on disk, bringing in those of others."""
