"""The only place that speaks PubNub."""
