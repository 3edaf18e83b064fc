"""How the system itself is delivered: validation, deployment, rollout, rollback."""

import pkgutil
from importlib import import_module

import dagster as dg

_modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]

definitions = dg.Definitions.merge(
    *(module.definitions for module in _modules if hasattr(module, "definitions"))
)
