"""The hot path: sweeper, relay, leases."""
