import logging

import pytest
from pydantic import SecretStr

from sketchy_orchestration.pubnub.keyset import Keyset, KeysetError, keep_out_of_logs
from sketchy_orchestration.settings import Settings


def keyset(publish: str = "pub-key/1", subscribe: str = "sub-key", origin: str = "localhost:1") -> Keyset:
    return Keyset(SecretStr(publish), SecretStr(subscribe), SecretStr("sec-key"), origin=origin)


def test_a_keyset_never_shows_its_keys() -> None:
    shown = f"{keyset()!r} {keyset()}"
    assert not any(secret in shown for secret in ("pub-key", "sub-key", "sec-key"))


def test_redacting_finds_keys_as_they_are_and_as_urls_have_them() -> None:
    assert keyset().redact("a pub-key/1 b pub-key%2F1 c sub-key d") == "a *** b *** c *** d"


def test_redacting_finds_signatures_and_tokens() -> None:
    told = "url='http://h/time/0?timestamp=1&signature=v2.Ab-c_&auth=qEF2AkF0Gmg' and token=abc"
    assert keyset().redact(told) == "url='http://h/time/0?timestamp=1&signature=***&auth=***' and token=***"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"publish": " "}, "PUBNUB_PUBLISH_KEY"),
        ({"subscribe": ""}, "PUBNUB_SUBSCRIBE_KEY"),
        ({"origin": ""}, "PUBNUB_ORIGIN"),
        ({"origin": "https://ps.pndsn.com"}, "PUBNUB_ORIGIN"),
    ],
)
def test_what_cannot_be_a_keyset_is_named(arguments: dict[str, str], named: str) -> None:
    with pytest.raises(KeysetError, match=named):
        keyset(**arguments)


@pytest.mark.parametrize("name", ["pubnub", "pubnub.subscribe", "pubnub.presence", "httpx"])
def test_the_sdks_loggers_cannot_show_keys(name: str, caplog: pytest.LogCaptureFixture) -> None:
    keep_out_of_logs(keyset())
    keep_out_of_logs(keyset(publish="ub-key"))
    logger = logging.getLogger(name)
    caplog.set_level(logging.DEBUG, logger=name)
    logger.debug("GET http://x/publish/%s", "whatever")
    logger.info("GET http://x/publish/")
    try:
        raise ValueError("sub-key")
    except ValueError:
        logger.exception("failed with %s", "pub-key/1")
    assert [record.getMessage() for record in caplog.records] == ["failed with ***"]
    assert "sub-key" not in caplog.text
    assert len([each for each in logger.filters if type(each).__name__ == "_KeyFilter"]) == 1


def test_the_keyset_of_the_settings() -> None:
    settings = Settings(_env_file=None, pubnub_publish_key="p", pubnub_subscribe_key="s", pubnub_ssl=False)
    assert Keyset.of(settings) == Keyset(SecretStr("p"), SecretStr("s"), ssl=False)


def test_missing_keys_are_named() -> None:
    with pytest.raises(KeysetError, match="PUBNUB_PUBLISH_KEY and PUBNUB_SUBSCRIBE_KEY"):
        Keyset.of(Settings(_env_file=None))
    with pytest.raises(KeysetError, match=r"^PUBNUB_SUBSCRIBE_KEY not set"):
        Keyset.of(Settings(_env_file=None, pubnub_publish_key="p"))
