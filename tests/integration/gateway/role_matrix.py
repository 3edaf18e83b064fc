"""Who may do what, once, for tables and functions; a new one gets its line here.

Letters: s select, i insert, u update, d delete; a capital means some columns only. What is not here, nobody
but the owner may do.
"""

from __future__ import annotations

ROLES = ("sketchy_timer", "sketchy_relay", "sketchy_gateway", "sketchy_operator")
APPLICATION_ROLES = ("anon", "authenticated", "service_role")

# table: timer, relay, gateway, operator
TABLES: dict[str, tuple[str, str, str, str]] = {
    "alert_messages": ("", "", "", "siud"),
    "alerts": ("", "", "s", "siud"),
    "application_row_security": ("", "", "", "s"),
    "attestations": ("", "", "s", "si"),
    "attempts": ("", "si", "s", "s"),
    "circuit": ("s", "su", "s", "s"),
    "deployment_steps": ("", "", "s", "siu"),
    "deployments": ("", "", "s", "siu"),
    "emergency_stops": ("s", "s", "s", "sU"),
    "dead_letters": ("", "siU", "s", "s"),
    "enrolments": ("s", "s", "s", "s"),
    "flag_history": ("s", "s", "s", "s"),
    "flags": ("s", "s", "s", "s"),
    "lane_progress": ("s", "su", "s", "s"),
    "lanes": ("s", "su", "s", "s"),
    "last_reports": ("", "", "", ""),
    "last_seqs": ("", "s", "s", "s"),
    "ledger": ("", "s", "s", "s"),
    "live_games": ("s", "s", "s", "s"),
    "metric_minutes": ("", "", "s", "sd"),
    "metric_totals": ("", "", "s", "s"),
    "migrations": ("s", "s", "s", "s"),
    "observations": ("", "", "s", "sd"),
    "operator_actions": ("s", "s", "", "s"),
    "outbox": ("s", "s", "s", "s"),
    "outcomes": ("", "si", "s", "s"),
    "releases": ("s", "s", "s", "s"),
    "replaced_functions": ("", "", "", ""),
    "rolled_up": ("", "", "s", "s"),
    "rollout_changes": ("", "", "s", "s"),
    "rollout_verdicts": ("", "", "s", "s"),
    "rollouts": ("", "", "s", "s"),
    "sequenced": ("", "si", "s", "s"),
    "set_aside": ("s", "", "", "s"),
    "shifts": ("siu", "siu", "s", "su"),
    "transitions": ("s", "s", "s", "s"),
    "trigger_failures": ("s", "", "", "s"),
    "validations": ("", "", "s", "si"),
}

_ALL = "timer relay gateway operator"

# function: the running parts that may call it
FUNCTIONS: dict[str, str] = {
    "accept_event": "gateway",
    "act_on_dead_letters": "operator",
    "act_on_games": "operator",
    "add_flag": "operator",
    "all_submitted_since": "timer operator",
    "begin_rollout": "operator",
    "ask_time_sync": "operator",
    "bucket": _ALL,
    "cancel_sweeps": "operator",
    "change_rollout": "operator",
    "channels_of": "relay gateway",
    "detach_day": "operator",
    "drop_detached": "operator",
    "drop_set_aside": "operator",
    "ended_games": "operator",
    "ensure_partitions": "timer relay operator",
    "emergency_stop": "operator",
    "expire_released": "operator",
    "flag_includes": _ALL,
    "flag_number": _ALL,
    "flag_on": _ALL,
    "fold_minutes": "operator",
    "forget_games": "operator",
    "forget_old": "operator",
    "forget_released": "operator",
    "game_timer": "gateway",
    "games_of_player": "gateway",
    "halt_rollouts": "operator",
    "is_enrolled": f"{_ALL} anon authenticated service_role",
    "is_time_out": "timer",
    "iso": _ALL,
    "lane_lock": "relay operator",
    "lane_of": _ALL,
    "lift_stop": "operator",
    "lock_class": _ALL,
    "metric_window": "operator",
    "my_games": "authenticated",
    "make_current": "operator",
    "note_action": "operator",
    "observe": "operator",
    "old_partitions": "operator",
    "record_look": "operator",
    "reconcile": "timer operator",
    "refresh_ledger": "timer relay operator",
    "remove_flag": "operator",
    "release_games": "operator",
    "relieve_others": "operator",
    "request_id": _ALL,
    "retry_set_aside": "operator",
    "roll_up_minutes": "operator",
    "set_flag": "operator",
    "set_game_aside": "timer",
    "signals": "gateway operator",
    "still_committing": "operator",
    "sweep": "timer operator",
    "warm_up_sweep": "timer",
    "timer_pass": "gateway",
    "timer_syncs": "relay operator",
    "waiting_events": "gateway operator",
    "why_not_down": "operator",
}


def callers(function: str) -> set[str]:
    """The roles that may call it."""
    named = FUNCTIONS.get(function, "").split()
    return {name if name in APPLICATION_ROLES else f"sketchy_{name}" for name in named}
