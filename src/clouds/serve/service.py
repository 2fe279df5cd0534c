"""How a model is served, as one checked value, and the answer to a request that is refused."""

from dataclasses import dataclass, field

from clouds.errors import UsageError


@dataclass(frozen=True)
class Service:
    """The limits of a server; raises UsageError naming every value that cannot be.

    host, port: where it listens; port 0 lets the system choose one.
    token: what clients have to send as ``Authorization: Bearer TOKEN``; None asks for none.
    max_bytes: of an upload. max_pixels: of an image, read from its header before a pixel is decoded.
    queue: images that wait while a batch is computed; those beyond are answered 503.
    batch: images that go through the network together.
    timeout: seconds for the upload, seconds from there to the answer, and seconds that a stop waits for answers.
    drain: seconds between the signal to stop, when ``/ready`` turns 503, and the port's end.
    threads: of the model; None leaves it to PyTorch.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    max_bytes: int = 20_000_000
    max_pixels: int = 16_000_000
    queue: int = 32
    batch: int = 4
    timeout: float = 30.0
    drain: float = 2.0
    threads: int | None = None

    def __post_init__(self) -> None:
        least = {"max_bytes": 1, "max_pixels": 1, "queue": 0, "batch": 1, "port": 0, "drain": 0}
        faults = [
            f"{name}: got {getattr(self, name)}; expected at least {low}"
            for name, low in least.items()
            if not getattr(self, name) >= low
        ]
        if self.port > 65535:
            faults.append(f"port: got {self.port}; expected at most 65535")
        if not 0 < self.timeout < float("inf"):
            faults.append(f"timeout: got {self.timeout}; expected seconds above 0")
        if self.threads is not None and self.threads < 1:
            faults.append(f"threads: got {self.threads}; expected at least 1")
        if self.token is not None and not (self.token and all("!" <= letter <= "~" for letter in self.token)):
            faults.append("token: empty, or holds other than ASCII letters, digits and signs; choose another")
        if faults:
            raise UsageError("\n  ".join(faults))

    @property
    def places(self) -> int:
        """Images in the house: those that wait and those in the network."""
        return self.queue + self.batch

    @property
    def held_pixels(self) -> int:
        """Pixels of the images in the house together, so that a queue of the largest ones does not fill memory."""
        return 4 * self.max_pixels

    @property
    def held_bytes(self) -> int:
        """Bytes of uploads that are being received."""
        return 8 * self.max_bytes


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A request that gets an error: HTTP ``status``, a short ``error`` for programs, a ``detail`` for people."""

    def __init__(self, status: int, error: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.error, self.detail, self.headers = status, error, detail, headers or {}
