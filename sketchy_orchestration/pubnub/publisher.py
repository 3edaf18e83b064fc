"""The interface of publishing, and how it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sketchy_orchestration.domain import envelope, publishing
from sketchy_orchestration.domain.publishing import Fault, Verdict
from sketchy_orchestration.errors import SketchyError

SERVER_UUID = "server-broadcast"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """PubNub has taken the message: not that anybody has heard it.

    Attributes:
        timetoken: PubNub's 17-digit moment of the message, in 100 ns; unique and rising in a channel.
    """

    timetoken: int


class PublishError(SketchyError):
    """A publish failed; `verdict` says whose fault it was and what to do."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.reason}: {verdict.detail}")
        self.verdict = verdict


class EventRefusedError(PublishError):
    """This message will never be accepted (not JSON, too large, a bad channel)."""


class KeysetRefusedError(PublishError):
    """The keys are wrong or suspended: no message's fault, and none will be accepted until that changes."""


class MomentFailedError(PublishError):
    """Time-out, connection, overload, unreadable answer: perhaps it was accepted; it may work later."""


_ERRORS: Mapping[Fault, type[PublishError]] = {
    Fault.event: EventRefusedError,
    Fault.keyset: KeysetRefusedError,
    Fault.moment: MomentFailedError,
}


def failure(verdict: Verdict) -> PublishError:
    """The exception of a verdict."""
    return _ERRORS[verdict.fault](verdict)


class Publisher(Protocol):
    """Publishes messages; safe to use from many tasks at once."""

    async def publish(
        self,
        channel: str,
        message: Mapping[str, object],
        *,
        timeout: float,  # noqa: ASYNC109  # bounds each attempt, by contract
        store: bool = True,
    ) -> Acceptance:
        """Publish one message once: never repeated by itself.

        Args:
            timeout: seconds the whole of it may take, from waiting for a connection to the answer's end.
            store: whether PubNub keeps it in the channel's history.

        Raises:
            EventRefusedError, KeysetRefusedError, MomentFailedError: it was not, or perhaps not, accepted.
            asyncio.CancelledError: the calling task was cancelled; the message may have been accepted.
        """
        ...

    async def close(self) -> None:
        """Close connections; what is in flight fails. Safe to call twice."""
        ...


def check_sendable(channel: str, message: Mapping[str, object]) -> str:
    """Refuse what PubNub could not take anyway.

    Returns:
        The message's JSON, in ASCII.

    Raises:
        EventRefusedError: a bad channel id, not JSON, or more than PubNub's 32 KiB.
    """
    if fault := envelope.channel_fault(channel):
        raise EventRefusedError(publishing.of_unsendable("bad_channel", fault))
    try:
        text = envelope.to_json(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise EventRefusedError(publishing.of_unsendable("not_json", str(error))) from None
    if not envelope.json_fits(channel, text):
        size = envelope.encoded_size(channel, message)
        raise EventRefusedError(
            publishing.of_unsendable("too_large", f"{size} bytes: PubNub takes {envelope.MESSAGE_LIMIT}")
        )
    return text
