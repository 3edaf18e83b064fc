"""How the system itself is delivered: flags, enrolment, validation, rollout, rollback, releases."""
