"""TFLite files, which are refused: no library that is kept up converts one to PyTorch or ONNX."""

from paretoscope.base.errors import ModelError
from paretoscope.networks.origins.origin import Opened, Options, existing, suffixed


class TfLite:
    name = "tflite"
    title = "TFLite"
    summary = "Refused: it is what networks are converted to last. Add what it was made from."
    reference = "Google AI Edge, LiteRT"
    form = "FILE.tflite"
    place = 80

    def takes(self, text: str) -> bool:
        return suffixed(text, ".tflite")

    def open(self, text: str, options: Options) -> Opened:
        existing(text)
        raise ModelError(
            f"a TFLite file cannot be opened, because nothing that is kept up reads it back; got {text}. Add the "
            "network that it was made from: the .keras or .h5 file, the .onnx file, or a .pt2 of torch.export."
        )


ORIGINS = (TfLite(),)
