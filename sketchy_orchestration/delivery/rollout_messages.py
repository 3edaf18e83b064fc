"""What people are told of a rollout's changes, and through which of the alert channels."""

from __future__ import annotations

from sketchy_orchestration.database.rollout import Message
from sketchy_orchestration.domain.alerting import Channel, Severity, reachable
from sketchy_orchestration.settings import Settings


def messages(settings: Settings, flag: str, said: str, *, by: str, reason: str, grave: bool) -> list[Message]:
    """One message for each channel that is configured; the watch delivers them and tries again."""
    configured = [
        channel
        for channel, address in (
            (Channel.slack, settings.alert_slack_url),
            (Channel.email, settings.alert_email_url),
            (Channel.pagerduty, settings.alert_pagerduty_url),
        )
        if address is not None
    ]
    wanted = (Channel.slack, Channel.email, Channel.pagerduty) if grave else (Channel.slack, Channel.email)
    severity = Severity.critical if grave else Severity.info
    title = f"[{severity} rollout] {flag}: {said}"[:200]
    body = "\n".join(
        [
            f"{flag}: {said}",
            f"By {by}, in {settings.environment}. Why: {reason}",
            "Where it stands: sketchy rollout status. What to do: docs/rollout.md",
        ]
    )
    return [
        Message(channel=str(channel), title=title, body=body) for channel in reachable(wanted, configured)
    ]
