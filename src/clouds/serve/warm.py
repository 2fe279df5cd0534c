"""Whether a server takes work: it starts, is ready, drains and stops."""

from collections.abc import Sequence

import numpy as np

from clouds.serve.batching import Served

WARM_UP = (64, 64)  # height, width of the picture that every model sees first: a first call is slow


class Warmth:
    """The state of one server, set by its own threads and read by ``/ready``."""

    status = "starting"
    fault: Exception | None = None

    @property
    def ready(self) -> bool:
        return self.status == "ready"

    @property
    def takes_work(self) -> bool:
        """Not before the models are warm; while it stops, what comes before the port closes is still answered."""
        return self.status != "starting"

    def warm(self, models: Sequence[Served]) -> None:
        try:
            for model in models:
                model.segment([np.zeros((*WARM_UP, 3), np.uint8)])
        except Exception as error:  # told by who runs the server: this is the model's thread
            self.fault = error
            return
        if self.status == "starting":
            self.status = "ready"

    def stop(self) -> None:
        self.status = "stopping"
