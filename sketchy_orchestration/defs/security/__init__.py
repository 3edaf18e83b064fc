"""The security audit."""

import dagster as dg

from sketchy_orchestration.defs.security import jobs

definitions = dg.Definitions(jobs=[jobs.security_audit], schedules=[jobs.monthly])
