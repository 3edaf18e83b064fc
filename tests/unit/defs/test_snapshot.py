"""What an operator sees in the Dagster UI, kept word for word, and the rules that all of it follows.

A change that is meant: SKETCHY_UPDATE_SNAPSHOT=1 python -m pytest tests/unit/defs/test_snapshot.py
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sketchy_orchestration.defs import load

pytestmark = pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer")
KEPT = Path(__file__).with_name("definitions.txt")
_HIDDEN = ("dagster/", "sketchy/")
# Nobody may do these without saying why and who: the only fields without a default.
_ASKED = {"reason", "by"}


@pytest.fixture(scope="module")
def repository() -> dg.RepositoryDefinition:
    return load().get_repository_def()


def _jobs(repository: dg.RepositoryDefinition) -> list[dg.JobDefinition]:
    jobs = (job for job in repository.get_all_jobs() if not job.name.startswith("__"))
    return sorted(jobs, key=lambda job: job.name)


def _fields(node: Any) -> Iterator[tuple[str, Any]]:
    if node.has_config_field:
        fields = getattr(node.config_schema.config_type, "fields", None) or {}
        yield from sorted(fields.items())


def _words(text: str | None) -> str:
    return " ".join((text or "").split())


def _tags(tags: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(tags.items()))


def seen(repository: dg.RepositoryDefinition) -> str:
    """Everything with words in it, in a form that a review reads."""
    lines: list[str] = []
    for job in _jobs(repository):
        lines += [f"job {job.name} [{_tags(job.tags)}]", f"  {_words(job.description)}"]
        for node in sorted(job.all_node_defs, key=lambda one: one.name):
            lines.append(f"  op {node.name}: {_words(node.description)}")
            for name, field in _fields(node):
                default = repr(field.default_value) if field.default_provided else "asked for"
                lines.append(f"    {name} = {default}: {_words(field.description)}")
    for sensor in sorted(repository.sensor_defs, key=lambda one: one.name):
        lines.append(f"sensor {sensor.name} [{_tags(sensor.tags)}]: {_words(sensor.description)}")
    for schedule in sorted(repository.schedule_defs, key=lambda one: one.name):
        when = f"{schedule.cron_schedule} {schedule.execution_timezone or 'UTC'}"
        lines.append(
            f"schedule {schedule.name} ({when}) [{_tags(schedule.tags)}]: {_words(schedule.description)}"
        )
    for key in sorted(repository.asset_graph.get_all_asset_keys(), key=lambda one: one.to_user_string()):
        asset = repository.asset_graph.get(key)
        owners = ", ".join(sorted(asset.owners))
        lines.append(
            f"asset {key.to_user_string()} ({asset.group_name}; {owners}): {_words(asset.description)}"
        )
    return "\n".join(lines) + "\n"


def test_it_is_as_it_was_kept(repository: dg.RepositoryDefinition) -> None:
    now = seen(repository)
    if os.environ.get("SKETCHY_UPDATE_SNAPSHOT"):
        KEPT.write_text(now, encoding="utf-8")
    assert now.splitlines() == KEPT.read_text(encoding="utf-8").splitlines(), __doc__


def test_every_job_says_when_to_launch_it(repository: dg.RepositoryDefinition) -> None:
    says = re.compile(r"\blaunch|\bby itself\b|\bruns\b|\bLets\b", re.IGNORECASE)
    assert [job.name for job in _jobs(repository) if not says.search(job.description or "")] == []


def test_the_launchpad_works_without_typing_except_for_reasons(repository: dg.RepositoryDefinition) -> None:
    for job in _jobs(repository):
        for node in job.all_node_defs:
            for name, field in _fields(node):
                assert len(_words(field.description)) > 5, f"{job.name}: {name} is not explained"
                assert field.default_provided or name in _ASKED, f"{job.name}: {name} has no default"


def test_tags_keep_the_list_readable(repository: dg.RepositoryDefinition) -> None:
    for job in _jobs(repository):
        own = [name for name in job.tags if not name.startswith(_HIDDEN)]
        assert own == ["owner"], f"{job.name}: {own}"
