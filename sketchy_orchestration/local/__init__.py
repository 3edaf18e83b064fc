"""The embedded stack: Postgres, a PubNub-compatible server, players, the legacy handler."""
