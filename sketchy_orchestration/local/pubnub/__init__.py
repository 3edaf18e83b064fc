"""A PubNub-compatible server one can develop against, and break on purpose.

It speaks the part of PubNub's protocol that publishing, subscribing, presence, history and Access Manager
need, well enough for the official SDKs to use it unchanged. It knows nothing of what the messages mean.
"""

from __future__ import annotations

from sketchy_orchestration.local.pubnub.config import StandInConfig, StandInError
from sketchy_orchestration.local.pubnub.embedded import FaultSwitch, LocalPubNub
from sketchy_orchestration.local.pubnub.faults import Fault, FaultKind
from sketchy_orchestration.local.pubnub.record import Accepted

__all__ = ["Accepted", "Fault", "FaultKind", "FaultSwitch", "LocalPubNub", "StandInConfig", "StandInError"]
