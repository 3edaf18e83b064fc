"""Dagster: one folder a domain, each with `definitions`; the code in them is thin."""

from __future__ import annotations

import os
import pkgutil
import warnings
from contextlib import suppress
from importlib import import_module

import dagster as dg

# Dagster warns of an argument that nobody but itself passes, whenever it copies a sensor.
warnings.filterwarnings("ignore", message="Parameter `owners` of initializer `SensorDefinition")


def load() -> dg.Definitions:
    """Every domain's definitions with the resources they share; connects to nothing."""
    from sketchy_orchestration.defs.resources import resources

    _set_up_logs()

    rooms = [
        import_module(f"{__name__}.{room.name}") for room in pkgutil.iter_modules(__path__) if room.ispkg
    ]
    return dg.Definitions.merge(
        # In-process: a run is at work in half the time, and nothing here has steps to spread.
        dg.Definitions(resources=resources(), executor=dg.in_process_executor),
        *(room.definitions for room in rooms),
    )


def _set_up_logs() -> None:
    """In Dagster's own processes; whoever else loads the definitions keeps its logs."""
    from sketchy_orchestration.monitoring import logs
    from sketchy_orchestration.settings import SettingsError, settings

    if "DAGSTER_HOME" in os.environ:
        # A wrong setting is told by whoever needs it, with the definitions there to be seen.
        with suppress(SettingsError):
            logs.configure(settings())
