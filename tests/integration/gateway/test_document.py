"""The OpenAPI document holds: hundreds of generated requests, and no answer it does not list."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks, not_a_server_error
from schemathesis.schemas import BaseSchema

from sketchy_orchestration.gateway.app import FUNCTIONS_SERVED
from sketchy_orchestration.gateway.callers import Kind
from sketchy_orchestration.local.postgres import RunningPostgres
from sketchy_orchestration.local.pubnub import LocalPubNub, StandInConfig
from tests.integration.gateway.serving import (
    CRON_SECRET,
    SERVICE_KEY,
    SMOKE,
    Serving,
    World,
    serving,
    settings_for,
    token_of,
)
from tests.postgres_fixtures import fresh_database

CASES = int(os.environ.get("SKETCHY_CASES", "50"))
"""Of each function and of each kind: 500 in all."""

load_all_checks()
_CHECKED = [
    not_a_server_error,
    *CHECKS.get_by_names(
        ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]
    ),
]


@pytest.fixture(scope="module")
def pubnub() -> Iterator[LocalPubNub]:
    with LocalPubNub(StandInConfig(secret_key="sec-c-local", enforce_access=True)) as server:
        yield server


@pytest.fixture(scope="module")
def url(postgres: RunningPostgres) -> Iterator[str]:
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def world(url: str) -> Iterator[World]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield World(connection)


@pytest.fixture(scope="module")
def gateway(url: str, pubnub: LocalPubNub) -> Iterator[Serving]:
    settings = settings_for(
        url,
        gateway_delivery_seconds=0.01,
        pubnub_publish_key=pubnub.publish_key,
        pubnub_subscribe_key=pubnub.subscribe_key,
        pubnub_secret_key=pubnub.secret_key,
        pubnub_origin=pubnub.origin,
        pubnub_ssl=False,
    )
    with serving(settings) as served:
        yield served


@pytest.fixture(scope="module")
def schema(gateway: Serving) -> BaseSchema:
    return schemathesis.openapi.from_dict(gateway.client.get("/openapi.json").json())


def credentials(kind: Kind, player: str) -> dict[str, str]:
    return {
        Kind.service: {"authorization": f"Bearer {SERVICE_KEY}"},
        Kind.cron: {"x-cron-secret": CRON_SECRET},
        Kind.player: {"authorization": f"Bearer {token_of(player)}"},
    }[kind]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
@pytest.mark.parametrize("function", FUNCTIONS_SERVED, ids=lambda f: f.name)
def test_no_answer_that_is_not_listed(
    gateway: Serving, schema: BaseSchema, world: World, function: object, mode: GenerationMode
) -> None:
    path = f"/functions/v1/{function.name}"  # type: ignore[attr-defined]
    operation = schema[path]["POST"]
    headers = credentials(function.caller, world.user())  # type: ignore[attr-defined]
    statuses: dict[int, int] = {}

    @settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def hold(case: schemathesis.Case) -> None:
        response = case.call(base_url=gateway.url, headers=headers, timeout=10)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        case.validate_response(response, checks=_CHECKED)
        assert response.headers["x-request-id"]

    try:
        hold()
    except schemathesis.errors.Unsatisfiable:  # pragma: no cover
        pytest.skip("there is no such request")
    assert max(statuses) < 500, statuses
    if mode is GenerationMode.POSITIVE:
        # They came through the door: what is good by the document is mostly good.
        assert statuses.keys() & {200, 202, 404}, statuses


def test_the_examples_of_the_document_work(gateway: Serving, schema: BaseSchema, world: World) -> None:
    document = gateway.client.get("/openapi.json").json()
    taken = document["paths"]["/functions/v1/broadcast-pubnub-event"]["post"]["requestBody"]
    assert taken["content"]["application/json"]["example"] == SMOKE
    for function in FUNCTIONS_SERVED:
        post = document["paths"][f"/functions/v1/{function.name}"]["post"]
        assert post["security"] == [{str(function.caller): []}]
        assert post["summary"]
        assert post["description"]
        assert {"200", "401", "429", "500", "503"} <= set(post["responses"])


def test_answers_have_examples(gateway: Serving) -> None:
    schemas = gateway.client.get("/openapi.json").json()["components"]["schemas"]
    told = [function.answers.__name__ for function in FUNCTIONS_SERVED] + ["ErrorAnswer", "HealthAnswer"]
    assert [name for name in told if not schemas[name].get("examples")] == []


def test_the_document_is_made_without_a_database(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import json

    from sketchy_orchestration.gateway.app import document, plain_app

    assert set(json.loads(json.dumps(document(plain_app())))["paths"]) == {
        *(f"/functions/v1/{function.name}" for function in FUNCTIONS_SERVED),
        "/health",
        "/ready",
        "/metrics",
    }
