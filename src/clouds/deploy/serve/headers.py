"""What a request's method and headers ask for beside its body: HEAD, and the media type of the answer."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Middleware that answers HEAD as GET without the body (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def bodiless(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        inner = {**scope, "method": "GET"}
        try:
            await self.app(inner, receive, bodiless)
        finally:
            if "route" in inner:  # what the router notes, for the counts
                scope["route"] = inner["route"]


def preferred(accept: str, offers: Sequence[str]) -> str:
    """The offer that an Accept header likes best (RFC 9110, section 12.5.1), the first of equals.

    accept: as "image/png;q=0.8, */*;q=0.1"; an empty one accepts all. Where nothing offered is accepted: the first.
    """
    likings: dict[str, float] = {}
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        quality = next((value for name, _, value in (p.partition("=") for p in parameters) if name.strip() == "q"), "1")
        try:
            likings[kind] = min(max(float(quality), 0.0), 1.0)
        except ValueError:
            likings[kind] = 0.0

    def liking(offer: str) -> float:
        ranges = (offer, offer.partition("/")[0] + "/*", "*/*")  # the most specific one counts
        return next((likings[each] for each in ranges if each in likings), 0.0 if accept.strip() else 1.0)

    return max(offers, key=liking)
