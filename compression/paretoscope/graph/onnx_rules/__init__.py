"""What each call of PyTorch becomes in ONNX, by family. Importing this registers the rules."""

from paretoscope.graph.onnx_rules import arithmetic, layers, moves, pooling, products, recurrent

__all__ = ["arithmetic", "layers", "moves", "pooling", "products", "recurrent"]
