"""What Dagster loads: names, words for the operator, and that no secret is in any of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sketchy_orchestration.defs import load
from sketchy_orchestration.defs.realtime.jobs import ROLE_TAG
from sketchy_orchestration.defs.resources import PostgresResource, PubNubResource
from sketchy_orchestration.local import stack_dagster
from sketchy_orchestration.settings import SettingsError

pytestmark = pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer")

PRODUCTION = Path(__file__).parents[3] / "deploy" / "dagster.yaml"
QUEUES = [
    pytest.param(PRODUCTION.read_text(encoding="utf-8"), id="production"),
    pytest.param(stack_dagster._INSTANCE, id="local"),
]


@pytest.fixture
def repository() -> dg.RepositoryDefinition:
    return load().get_repository_def()


def test_what_is_there(repository: dg.RepositoryDefinition) -> None:
    """A name that changes breaks links, alerts and people's memory: change it here too, knowingly."""
    realtime = {"timer_sweep", "event_fanout", "timer_shift", "fanout_shift"}
    realtime |= {"dead_letter_replay", "dead_letter_discard"}
    assert realtime <= {job.name for job in repository.get_all_jobs()}
    assert {"shift_supervision", "backstop"} <= {sensor.name for sensor in repository.sensor_defs}
    schedules = {schedule.name for schedule in repository.schedule_defs}
    assert {"timer_sweep_every_minute", "event_fanout_every_minute"} <= schedules
    assets = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    assert {"timer_lateness", "event_delivery"} <= assets
    assert {"postgres", "pubnub"} <= set(repository.get_top_level_resources())


@pytest.mark.parametrize("text", QUEUES)
def test_operator_jobs_never_queue_behind_shifts(repository: dg.RepositoryDefinition, text: str) -> None:
    """However many shifts and passes are asked for, there is room beside them."""
    queue = yaml.safe_load(text)["run_coordinator"]["config"]
    limits = {limit["value"]: limit["limit"] for limit in queue["tag_concurrency_limits"]}
    assert sum(limits.values()) + 5 <= queue["max_concurrent_runs"]
    roles = {job.name: job.tags.get(ROLE_TAG) for job in repository.get_all_jobs() if "owner" in job.tags}
    ours = {"timer_shift", "fanout_shift", "timer_sweep", "event_fanout"}
    assert {name for name, role in roles.items() if role in limits} == ours
    assert {role for name, role in roles.items() if name not in ours} == {"operator"}


def test_everything_says_what_it_does(repository: dg.RepositoryDefinition) -> None:
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    named: dict[str, str | None] = {
        **{job.name: job.description for job in jobs},
        **{node.name: node.description for job in jobs for node in job.all_node_defs},
        **{sensor.name: sensor.description for sensor in repository.sensor_defs},
        **{schedule.name: schedule.description for schedule in repository.schedule_defs},
        **{
            key.to_user_string(): repository.asset_graph.get(key).description
            for key in repository.asset_graph.get_all_asset_keys()
        },
    }
    assert [name for name, text in named.items() if not text or len(text) < 40] == []


def test_everything_has_an_owner(repository: dg.RepositoryDefinition) -> None:
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    for one in (*jobs, *repository.sensor_defs, *repository.schedule_defs):
        assert "owner" in one.tags, one.name
    for key in repository.asset_graph.get_all_asset_keys():
        node = repository.asset_graph.get(key)
        assert node.owners, key
        assert node.group_name != "default", key


def test_sensors_and_schedules_run_without_being_switched_on(repository: dg.RepositoryDefinition) -> None:
    statuses = {one.name: one.default_status.value for one in repository.sensor_defs}
    statuses |= {one.name: one.default_status.value for one in repository.schedule_defs}
    assert set(statuses.values()) == {"RUNNING"}


def test_passes_are_retried_and_a_cancelled_shift_is_not(repository: dg.RepositoryDefinition) -> None:
    policies = {
        job: [node.retry_policy for node in repository.get_job(job).all_node_defs if node.retry_policy]
        for job in ("timer_sweep", "event_fanout", "timer_shift", "fanout_shift")
    }
    for job in ("timer_sweep", "event_fanout"):
        (policy,) = policies[job]
        assert (policy.backoff, policy.jitter) == (dg.Backoff.EXPONENTIAL, dg.Jitter.PLUS_MINUS)
    # Dagster applies a policy to cancelled runs too: the shift would begin again.
    assert policies["timer_shift"] == policies["fanout_shift"] == []


_SECRETS = {
    "DATABASE_URL": "postgresql://owner:hunter2@db.invalid/app",
    "OPERATOR_DATABASE_URL": "postgresql://operator:hunter2@db.invalid/app",
    "PUBNUB_PUBLISH_KEY": "pub-hunter2",
    "PUBNUB_SUBSCRIBE_KEY": "sub-hunter2",
    "PUBNUB_SECRET_KEY": "sec-hunter2",
}


def test_secrets_are_not_in_what_dagster_stores_or_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster._serdes import serialize_value

    for name, value in _SECRETS.items():
        monkeypatch.setenv(name, value)
    definitions = load()
    repository = definitions.get_repository_def()
    stored = serialize_value(RepositorySnap.from_def(repository))
    assert "DATABASE_URL" in stored
    assert "hunter2" not in stored
    assert "hunter2" not in repr(definitions.resources)


def test_a_resolved_resource_hides_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = PostgresResource(database_url=_SECRETS["DATABASE_URL"])
    pubnub = PubNubResource(
        pubnub_publish_key="pub-hunter2", pubnub_subscribe_key="sub-hunter2", pubnub_secret_key="sec-hunter2"
    )
    settings = pubnub.settings(postgres)
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == _SECRETS["DATABASE_URL"]
    assert settings.pubnub_secret_key is not None
    assert settings.pubnub_secret_key.get_secret_value() == "sec-hunter2"
    assert "hunter2" not in f"{postgres!r} {postgres} {pubnub!r} {pubnub} {settings!r}"


def test_a_wrong_value_is_explained_without_the_secret() -> None:
    with pytest.raises(SettingsError, match=r"DATABASE_URL is .secret.: must be a URL") as raised:
        PostgresResource(database_url="hunter2").settings()
    assert "hunter2" not in str(raised.value)


def test_loading_starts_and_connects_to_nothing(tmp_path: Path) -> None:
    """In a process of its own, without settings: whatever it started would leave traces in its home."""
    script = (
        "import threading, psutil\n"
        "from sketchy_orchestration.definitions import defs\n"
        "defs.get_repository_def()\n"
        "print(len(psutil.Process().children(recursive=True)), len(psutil.Process().net_connections()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"SKETCHY_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["0", "0"]
    assert not (tmp_path / "home").exists()
