"""The audit as a job: monthly, and by hand whenever roles, ports or packages changed."""

import dagster as dg
from pydantic import Field

from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.monitoring import security_audit as audits

OWNER_TAGS = {"owner": "operations", "sketchy/role": "operator", "dagster/max_retries": "0"}


class AuditConfig(dg.Config):
    """Config of security_audit."""

    fail_on_findings: bool = Field(
        default=True, description="End the run as failed when there is something to look at"
    )


@dg.op
def look_for_weaknesses(
    context: dg.OpExecutionContext, config: AuditConfig, postgres: PostgresResource
) -> None:
    """Looks at roles, definer functions, ports, keys and packages; changes nothing."""
    found = audits.audit(postgres.settings())
    context.log.info(found.markdown())
    context.add_output_metadata(
        {
            "report": dg.MetadataValue.md(found.markdown()),
            "findings": found.findings,
            "advisories_asked": found.advisories.asked,
        }
    )
    if found.findings and config.fail_on_findings:
        raise dg.Failure(
            f"{found.findings} findings",
            metadata={"report": dg.MetadataValue.md(found.markdown())},
            allow_retries=False,
        )


@dg.job(tags=OWNER_TAGS)
def security_audit() -> None:
    """Who may do what, definer functions, exposed ports, ages of keys, known vulnerabilities.

    Launch it after changing roles, grants, ports or packages. The report is in the run; a finding fails it.
    """
    look_for_weaknesses()


monthly = dg.ScheduleDefinition(
    name="security_audit_schedule",
    job=security_audit,
    cron_schedule="29 5 1 * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    tags=OWNER_TAGS,
    description="On the first of each month, early, so that a finding has a working day before it.",
)
