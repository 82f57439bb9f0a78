"""The zoo: models with weights that we trained, and the data that they are measured on.

Light to import: torchvision and scikit-learn are loaded by the first model or dataset that needs them.
"""

from paretoscope.data.dataset import DatasetEntry, ImageData, datasets, load_data
from paretoscope.networks.zoo.model import DEFAULT_MODEL, ModelEntry, build, load_model, models, models_of

__all__ = [
    "DEFAULT_MODEL",
    "DatasetEntry",
    "ImageData",
    "ModelEntry",
    "build",
    "datasets",
    "load_data",
    "load_model",
    "models",
    "models_of",
]
