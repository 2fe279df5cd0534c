"""Images in, labels out: the predictor, what it is pointed at, and the files it writes."""

from clouds.predict.predictor import Predictor, load

__all__ = ["Predictor", "load"]
