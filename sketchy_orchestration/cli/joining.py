"""The settings of a command that needs a running system: the environment's, else those of the local stack."""

from __future__ import annotations

from sketchy_orchestration.settings import Settings, settings


def joined_settings() -> Settings:
    """The settings of this process; without a database's URL among them, those of the local stack that runs.

    Raises:
        SketchyError: a setting is wrong, or neither is there.
    """
    chosen = settings()
    given = (
        chosen.database_url,
        chosen.timer_database_url,
        chosen.relay_database_url,
        chosen.gateway_database_url,
        chosen.operator_database_url,
    )
    if any(url is not None for url in given):
        return chosen
    # Imported here: a command that was told its database starts without it, an emergency stop above all.
    from sketchy_orchestration.local import stack_state

    environment = stack_state.running(chosen.sketchy_home).environment
    local = {name.lower(): value for name, value in environment.items()}
    return Settings(**{**local, **chosen.model_dump(exclude_unset=True)})


def joined_or_own_settings() -> Settings:
    """The same for what needs no database; where no stack runs, the settings of this process alone."""
    from sketchy_orchestration.local import stack_state

    try:
        return joined_settings()
    except stack_state.StackNotRunningError:
        return settings()
