"""Pure decisions: no I/O, no clock, no Dagster, no SQL."""
