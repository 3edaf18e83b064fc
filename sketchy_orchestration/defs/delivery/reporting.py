"""How jobs of delivery tell of their steps: lines of the run's log, a table at the end."""

from collections.abc import Callable

import dagster as dg

from sketchy_orchestration.delivery.steps import Step, Steps

OWNER_TAGS = {"owner": "operations", "sketchy/role": "operator", "dagster/max_retries": "0"}


def teller(context: dg.OpExecutionContext) -> Callable[[Step], None]:
    """Each step as a line of the run's log, as it ends."""

    def tell(step: Step) -> None:
        say = context.log.info if step.ok else context.log.error
        say(f"{step.at_ms:,.0f} ms  {step.name}: {step.found}")

    return tell


def report(context: dg.OpExecutionContext, title: str, done: Steps) -> None:
    """The steps as a table in the run; a step that failed fails it."""
    text = done.markdown(title)
    context.add_output_metadata({"report": dg.MetadataValue.md(text)})
    if not done.ok:
        raise dg.Failure(
            "a step failed: launch it again",
            metadata={"report": dg.MetadataValue.md(text)},
            allow_retries=False,
        )
