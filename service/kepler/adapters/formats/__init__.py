"""How fitted estimators become files: ONNX where it agrees, else a format that runs no code on loading."""

from kepler.adapters.formats.safe import SafeModelFormats

__all__ = ["SafeModelFormats"]
