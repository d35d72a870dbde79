"""Formats of checkpoints that others trained: `rnnatlas formats` lists them."""

from rnnatlas.registry import Registry, make_indexable

registry = Registry(
    "format",
    {
        "torch": (
            "rnnatlas.importers.torch_state_dict:TorchStateDict",
            "torch state_dict, module or program (.pt .pth .ckpt .pt2 …), also nested; none of it is run",
        ),
        "safetensors": (
            "rnnatlas.importers.safetensors:Safetensors",
            "safetensors (.safetensors), also in several files with an index",
        ),
        "onnx": ("rnnatlas.importers.onnx:ONNX", "LSTM, GRU and RNN nodes of ONNX graphs (.onnx)"),
        "arrays": (
            "rnnatlas.importers.arrays:Arrays",
            "arrays by name: W_rec, W_in and their like, or named as by torch or Flax (.npz .mat)",
        ),
        "guitar": (
            "rnnatlas.importers.guitar:Guitar",
            "guitar amplifiers of Automated-GuitarAmpModelling, GuitarML and RTNeural (.json)",
        ),
        "flax": ("rnnatlas.importers.flax:Flax", "Flax parameters (.msgpack)"),
        "keras": ("rnnatlas.importers.keras:Keras", "Keras models and weights (.keras .h5 .hdf5)"),
    },
    base="rnnatlas.importers.base:Importer",
    group="rnnatlas.importers",
)

make_indexable(__name__)
