"""Images in, labels out. Start with ``predictor``; ``files`` is ``clouds predict``, for folders and videos."""

from clouds.predict.predictor import Predictor, load

__all__ = ["Predictor", "load"]
