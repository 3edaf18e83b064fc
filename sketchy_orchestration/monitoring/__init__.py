"""Service levels, health, metrics, alerts."""
