"""deploy/kubernetes: what the cluster would be sent is valid, and a shift becomes the Job that is meant."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sketchy_orchestration import __version__
from sketchy_orchestration.defs.realtime.jobs import ROLE_TAG, SHIFT_JOBS
from sketchy_orchestration.local import stack_dagster

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"
VALUES: dict[str, Any] = yaml.safe_load((FOLDER / "values.yaml").read_text(encoding="utf-8"))
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))


def manifests() -> Iterator[dict[str, Any]]:
    for name in KUSTOMIZATION["resources"]:
        yield from yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))


MANIFESTS = [pytest.param(one, id=f"{one['kind']}-{one['metadata']['name']}") for one in manifests()]
DEPLOYMENTS = [one for one in manifests() if one["kind"] == "Deployment"]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_kubernetes_would_take_it(manifest: dict[str, Any]) -> None:
    validating = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        validating.validate(manifest, validating.latest_version(), strict=True)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda one: str(one["metadata"]["name"]))
def test_a_pod_may_do_little_and_is_given_time(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] >= 20
    for container in pod["containers"]:
        may = container["securityContext"]
        assert may["readOnlyRootFilesystem"] is True
        assert (may["allowPrivilegeEscalation"], may["capabilities"]) == (False, {"drop": ["ALL"]})
        assert container["resources"]["requests"]
        assert container["envFrom"] == [{"secretRef": {"name": "sketchy-settings"}}], "no secret in a file"


def test_every_file_is_applied_and_one_version_everywhere() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"values.yaml", "kustomization.yaml"}
    assert files == set(KUSTOMIZATION["resources"])
    (image,) = KUSTOMIZATION["images"]
    chart = VALUES["dagster-user-deployments"]["deployments"][0]["image"]
    assert (image["newName"], image["newTag"]) == (chart["repository"], chart["tag"])
    assert chart["tag"] == __version__
    assert VALUES["dagsterDaemon"]["image"] == VALUES["dagsterWebserver"]["image"] == chart


def test_the_queue_is_the_one_of_every_other_deployment() -> None:
    here = VALUES["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    there = yaml.safe_load(stack_dagster._INSTANCE)["run_coordinator"]["config"]
    assert here["tagConcurrencyLimits"] == there["tag_concurrency_limits"]
    assert here["maxConcurrentRuns"] == there["max_concurrent_runs"]
    assert VALUES["dagsterDaemon"]["runRetries"]["enabled"] is False
    limited = {limit["value"] for limit in here["tagConcurrencyLimits"] if limit["key"] == ROLE_TAG}
    assert {job.tags[ROLE_TAG] for job in SHIFT_JOBS.values()} <= limited


def test_a_shift_becomes_a_job_of_its_own() -> None:
    """By the run launcher's own code, from the values: spread, never started twice, kept from drains."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("dagster_k8s", reason="the extra `kubernetes` is not installed")
        from dagster_k8s.job import (
            DagsterK8sJobConfig,
            UserDefinedDagsterK8sConfig,
            construct_dagster_k8s_job,
        )
        from dagster_k8s.models import k8s_snake_case_dict
        from kubernetes.client import ApiClient, V1SecurityContext

        launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
        made = construct_dagster_k8s_job(
            job_config=DagsterK8sJobConfig(
                job_image="sketchy-orchestration:test",
                dagster_home=VALUES["global"]["dagsterHome"],
                env_secrets=["sketchy-settings"],
                labels=launcher["labels"],
                security_context=k8s_snake_case_dict(V1SecurityContext, launcher["securityContext"]),
                resources=launcher["resources"],
            ),
            args=["dagster", "api", "execute_run", "{}"],
            job_name="dagster-run-0001",
            user_defined_k8s_config=UserDefinedDagsterK8sConfig.from_dict(_snake(launcher["runK8sConfig"])),
            component="run_worker",
            labels={"dagster/job": SHIFT_JOBS_TIMER},
        )
        job: dict[str, Any] = ApiClient().sanitize_for_serialization(made)
        validating = pytest.importorskip("kubernetes_validate")
        validating.validate(job, validating.latest_version(), strict=True)
    assert job["spec"]["backoffLimit"] == 0
    pod = job["spec"]["template"]
    assert pod["spec"]["restartPolicy"] == "Never"
    (spread,) = pod["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    labels = pod["metadata"]["labels"]
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()
    assert set(spread["matchLabelKeys"]) <= set(labels)
    kept = [one for one in manifests() if one["kind"] == "PodDisruptionBudget"]
    of_shifts = {
        one["metadata"]["name"]: one["spec"]["selector"]["matchLabels"]
        for one in kept
        if one["metadata"]["name"] != "gateway"
    }
    assert {found["dagster/job"] for found in of_shifts.values()} == {job.name for job in SHIFT_JOBS.values()}
    assert of_shifts["timer-shift"].items() <= labels.items()


SHIFT_JOBS_TIMER = next(job.name for kind, job in SHIFT_JOBS.items() if str(kind) == "timer")
_KEYS = {
    "containerConfig": "container_config",
    "podSpecConfig": "pod_spec_config",
    "podTemplateSpecMetadata": "pod_template_spec_metadata",
    "jobSpecConfig": "job_spec_config",
    "jobMetadata": "job_metadata",
}


def _snake(config: dict[str, Any]) -> dict[str, Any]:
    """As the chart writes it into dagster.yaml."""
    return {_KEYS[key]: value for key, value in config.items()}
