"""Sends messages through apprise: Slack, mail, PagerDuty, and whatever else its URLs can name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import apprise
from pydantic import SecretStr

from sketchy_orchestration.domain.alerting import Channel, Severity
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings

_KINDS = {
    Severity.info: apprise.NotifyType.INFO,
    Severity.warning: apprise.NotifyType.WARNING,
    Severity.critical: apprise.NotifyType.FAILURE,
}
SECONDS = 10
"""Time limit of one message: to connect, and for each answer."""


class WrongChannelError(SketchyError):
    """The setting of a channel is not a URL that apprise knows; the message never shows it."""


@dataclass(slots=True)
class _Said(logging.Handler):
    """Keeps what apprise logs while it sends: its only way to say why it could not."""

    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        logging.Handler.__init__(self, logging.WARNING)

    __hash__ = logging.Handler.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Channels:
    """The channels that are configured.

    Raises:
        WrongChannelError: one of the settings cannot be used.
    """

    def __init__(self, addresses: Mapping[Channel, SecretStr]) -> None:
        # What it says of a failure quotes addresses, which hold secrets: nobody but `send` hears it.
        logging.getLogger("apprise").propagate = False
        self._senders: dict[Channel, apprise.Apprise] = {}
        self._addresses = {channel: address.get_secret_value() for channel, address in addresses.items()}
        for channel, address in self._addresses.items():
            sender = apprise.Apprise()
            joiner = "&" if "?" in address else "?"
            if not sender.add(f"{address}{joiner}cto={SECONDS}&rto={SECONDS}&retry=0"):
                raise WrongChannelError(
                    f"ALERT_{channel.upper()}_URL is no URL that apprise knows",
                    hint="such as slack://token, mailtos://user:password@host or pagerduty://key@token",
                )
            self._senders[channel] = sender

    @classmethod
    def of(cls, settings: Settings) -> Channels:
        """Those of the settings ALERT_SLACK_URL, ALERT_EMAIL_URL and ALERT_PAGERDUTY_URL."""
        given = {
            Channel.slack: settings.alert_slack_url,
            Channel.email: settings.alert_email_url,
            Channel.pagerduty: settings.alert_pagerduty_url,
        }
        return cls({channel: address for channel, address in given.items() if address is not None})

    @property
    def configured(self) -> tuple[Channel, ...]:
        return tuple(self._senders)

    def send(self, channel: Channel, title: str, body: str, severity: Severity) -> str | None:
        """Send one message; None when it was accepted, else why not, without the channel's address."""
        sender = self._senders.get(channel)
        if sender is None:
            return f"ALERT_{channel.upper()}_URL is not set"
        said = _Said()
        logger = logging.getLogger("apprise")
        logger.addHandler(said)
        try:
            accepted = bool(sender.notify(body=body, title=title, notify_type=_KINDS[severity]))
        except Exception as error:
            accepted, said.lines = False, [f"{type(error).__name__}: {error}"]
        finally:
            logger.removeHandler(said)
        if accepted:
            return None
        text = "; ".join(said.lines) or "the channel refused the message"
        return text.replace(self._addresses[channel], "***")[:300]
