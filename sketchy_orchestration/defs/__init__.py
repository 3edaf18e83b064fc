"""Dagster definitions, one folder a domain."""
