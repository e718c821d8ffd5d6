"""What importing the torch package does besides."""

from __future__ import annotations

from . import installed as installed  # before anything imports torch
from . import moved as moved  # pickles name former places of classes
from . import onnx as onnx  # torch's ONNX exporter looks the maps up
from . import team as team  # before the first loop runs
