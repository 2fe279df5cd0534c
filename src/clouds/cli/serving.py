"""The verb that puts a model behind HTTP: serve."""

from typing import Annotated

from clouds.cli.options import Debug, Device, Json, app, argument, option, tell


@app.command()
def serve(
    models: Annotated[list[str], argument("MODEL", "One model, or two to compare on the page; as for predict.")],
    port: Annotated[int, option("--port N", "Port to listen on; 0: any free one.")] = 8000,
    host: Annotated[str, option("--host ADDRESS", "Address to listen on; 0.0.0.0: all.")] = "127.0.0.1",
    token: Annotated[
        str | None, option("--token TEXT", "Bearer token to ask clients for.", envvar="CLOUDS_TOKEN")
    ] = None,
    max_bytes: Annotated[int, option("--max-bytes N", "Largest upload, in bytes.")] = 20_000_000,
    max_pixels: Annotated[int, option("--max-pixels N", "Largest image, in pixels.")] = 16_000_000,
    queue: Annotated[int, option("--queue N", "Images that may wait; more get 503.")] = 32,
    batch: Annotated[int, option("--batch N", "Images segmented at a time.")] = 4,
    timeout: Annotated[
        float, option("--timeout S", "Seconds for an upload, for its answer, and for the last answers when stopping.")
    ] = 30.0,
    drain: Annotated[float, option("--drain S", "Seconds to go on after a stop signal, while /ready is 503.")] = 2.0,
    device: Device = "cpu",
    threads: Annotated[int | None, option("--threads N", "CPU threads of the model.  [default: PyTorch's]")] = None,
    cors: Annotated[
        list[str] | None, option("--cors ORIGIN", "Allow pages of this origin, such as https://example.org; *: all.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Segment images over HTTP, with a web page.

    Both on the same port. Ctrl-C or SIGTERM stops it.

    \b
    Examples:
      clouds serve runs/demo
      clouds serve runs/demo runs/demo/warmup --port 9000
      CLOUDS_TOKEN=... clouds serve runs/demo --host 0.0.0.0
      curl -H "Content-Type: image/jpeg" --data-binary @street.jpg "localhost:8000/v1/segment?format=overlay"
    """
    from clouds.deploy.serve import start
    from clouds.deploy.serve.limits import Service

    limits = Service(host, port, token, max_bytes, max_pixels, queue, batch, timeout, drain, threads, tuple(cors or ()))
    start(models, limits, device, lambda each: tell(each, as_json, f"{', '.join(each['models'])} on {each['url']}"))
