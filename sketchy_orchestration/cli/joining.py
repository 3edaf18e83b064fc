"""The settings of a command that needs a running system: the environment's, else those of the local stack."""

from __future__ import annotations

from sketchy_orchestration.local import stack_state
from sketchy_orchestration.settings import Settings, settings


def joined_settings() -> Settings:
    """The settings of this process; without DATABASE_URL, those of the local stack that runs.

    Raises:
        SketchyError: a setting is wrong, or neither is there.
    """
    chosen = settings()
    if chosen.database_url is not None or chosen.operator_database_url is not None:
        return chosen
    environment = stack_state.running(chosen.sketchy_home).environment
    local = {name.lower(): value for name, value in environment.items()}
    return Settings(**{**local, **chosen.model_dump(exclude_unset=True)})
