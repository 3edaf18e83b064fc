"""Dagster's front door: loads defs/, nothing else."""

from sketchy_orchestration.defs import load

defs = load()
