import asyncio
from collections.abc import Callable

from pydantic import SecretStr

from sketchy_orchestration.pubnub.keyset import Keyset

PUBLISH_KEY = "pub-c-11111111-aaaa"
SUBSCRIBE_KEY = "sub-c-22222222-bbbb"
SECRET_KEY = "sec-c-33333333-cccc"


def keyset_at(origin: str, *, signing: bool = False) -> Keyset:
    return Keyset(
        publish_key=SecretStr(PUBLISH_KEY),
        subscribe_key=SecretStr(SUBSCRIBE_KEY),
        secret_key=SecretStr(SECRET_KEY) if signing else None,
        origin=origin,
        ssl=False,
    )


async def until(condition: Callable[[], bool], limit: float = 5) -> None:
    """Wait for a condition, looking every few milliseconds."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in code that knows no events
            await asyncio.sleep(0.005)
