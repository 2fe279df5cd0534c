"""Files that turn out bad during training: skipped, named once, counted, and too many of them end the run."""

import threading

from clouds.base.progress import say
from clouds.errors import DataError


class BadFiles:
    """What a stage of training could not read."""

    def __init__(self, total: int, share: float) -> None:
        """total: samples there are; share: more than this part of them bad is an error."""
        self.total, self.share = total, share
        self.found: dict[int, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.found)

    def note(self, index: int, error: DataError) -> None:
        """Warn once of sample ``index``; DataError where that makes too many."""
        with self._lock:
            new = index not in self.found
            self.found[index] = str(error)
            if len(self.found) > self.share * self.total:
                listed = "\n  ".join(list(self.found.values())[:10])
                raise DataError(
                    f"{len(self.found)} of {self.total} samples cannot be read, more than data.max_bad allows "
                    f"({100 * self.share:g} %); `clouds check --full` lists all:\n  {listed}"
                ) from error
        if new:
            say(f"skipped: {error}")
