"""Examples for the help of commands whose own text has none: one place, one form."""

from __future__ import annotations

from typing import Any

EXAMPLES: dict[str, tuple[str, ...]] = {
    "sketchy up": ("sketchy up", "sketchy up --games 200 --dagster-port 3100"),
    "sketchy down": ("sketchy down", "sketchy down --delete-data"),
    "sketchy migrate up": ("sketchy migrate up --dry-run", "sketchy migrate up"),
    "sketchy migrate down": (
        "sketchy migrate down --dry-run",
        'sketchy migrate down --to 0043 --reason "try the release again"',
    ),
    "sketchy games pause": ('sketchy games pause 3f0c... --reason "ticket 123"',),
    "sketchy games resume": ('sketchy games resume 3f0c... --reason "ticket 123"',),
    "sketchy games extend": ('sketchy games extend 3f0c... --seconds 30 --reason "ticket 123"',),
    "sketchy games advance": (
        'sketchy games advance 3f0c... --reason "ticket 123"',
        'sketchy games advance --all-live --reason "timers are off" --yes',
    ),
    "sketchy games sync": ('sketchy games sync --all-live --reason "clocks looked wrong"',),
    "sketchy games retry": ('sketchy games retry 3f0c... --reason "its data is repaired"',),
    "sketchy games drop": ('sketchy games drop 3f0c... --reason "beyond repair, ticket 123"',),
    "sketchy alerts list": ("sketchy alerts list", "sketchy alerts list --all --limit 50"),
    "sketchy alerts test": ("sketchy alerts test", "sketchy alerts test --channel slack"),
    "sketchy flags ask": ("sketchy flags ask enrolment 3f0c...",),
    "sketchy flags remove": ('sketchy flags remove new_canvas --reason "everybody has it"',),
    "sketchy flags history": ("sketchy flags history enrolment --limit 5",),
    "sketchy validate attest": ('sketchy validate attest security_signoff --note "review of 12 March"',),
    "sketchy validate verdicts": ("sketchy validate verdicts --limit 5",),
    "sketchy releases": ("sketchy releases --limit 5",),
    "sketchy rollback flag": ('sketchy rollback flag pubnub_broadcasting --reason "PubNub incident"',),
    "sketchy rollback risk": ('sketchy rollback risk pubnub --reason "PubNub incident" --yes',),
    "sketchy rollout pause": ('sketchy rollout pause --reason "watching support tickets"',),
    "sketchy rollout resume": ('sketchy rollout resume --reason "nothing seen"',),
    "sketchy rollout promote": ('sketchy rollout promote --reason "looks good"',),
    "sketchy rollout skip": ('sketchy rollout skip --reason "this step was done by hand"',),
    "sketchy rollout abort": ('sketchy rollout abort --reason "error rate"',),
    "sketchy rollout retry": ('sketchy rollout retry --reason "the cause is repaired"',),
    "sketchy rollout undo": ('sketchy rollout undo --reason "back to the step before"',),
    "sketchy rollout status": ("sketchy rollout status", "sketchy rollout status --flag enrolment --json"),
    "sketchy rollout watch": ("sketchy rollout watch --every 2",),
    "sketchy rollout history": ("sketchy rollout history --limit 20",),
    "sketchy rollout plan": ("sketchy rollout plan", "sketchy rollout plan --yaml > plan.yaml"),
    "sketchy rollout control": ("sketchy rollout control --every 5",),
    "sketchy play": ("sketchy play --games 10", "sketchy play --games 50 --forever"),
    "sketchy gateway types": (
        "sketchy gateway types clients/javascript",
        "sketchy gateway types --check",
    ),
}


def add_examples(command: Any, path: str) -> None:
    """Put examples below the help of `command` and of the commands in it, where they have none."""
    for name, child in getattr(command, "commands", {}).items():
        add_examples(child, f"{path} {name}")
    if path in EXAMPLES and "Example" not in f"{command.help}{command.epilog}":
        given = EXAMPLES[path]
        # \b keeps the lines as they are.
        command.epilog = "\n".join(
            ("\b", f"Example{'s' * (len(given) > 1)}:", *(f"  {one}" for one in given))
        )
