"""sketchy code-server: our definitions for Dagster, and an end in which the shifts come first."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from types import FrameType

import psutil
import structlog
import typer

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.local.stack_runs import is_accessory

_LOOK_SECONDS = 0.2
_LEAVE_SECONDS = 12.0
_SIGNAL_SECONDS = 5.0
_START_SECONDS = 90.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = structlog.get_logger(__name__)


class CodeServerError(SketchyError):
    """The code server ended by itself, never began to answer, or does not answer now."""


def code_server(
    host: str = typer.Option("127.0.0.1", help="Address to listen on; anybody who reaches it may run code."),
    port: int = typer.Option(4000, min=1, max=65535, help="Port to listen on."),
    check: bool = typer.Option(False, "--check", help="Only ask the one that runs there whether it serves."),
) -> None:
    """Serve the definitions to Dagster until SIGTERM; then the runs it hosts end first, and cleanly.

    Told to stop, a code server of Dagster's waits for its runs, and a shift leaves only when it is asked to.
    Stop the daemon before, so that nothing is replaced meanwhile.

    Exit code 0: stopped, or it serves (--check); 1: it ended by itself, or does not serve.

    \b
    Examples:
      sketchy code-server --port 4000
      sketchy code-server --check
    """
    if check:
        _check(host, port)
        typer.echo("serving")
        return
    from sketchy_orchestration.local.stack_dagster import code_server_command

    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    for number in _SIGNALS:
        signal.signal(number, ask)
    # A group of its own: Ctrl-C is for this process, which passes it on in its own order.
    server = subprocess.Popen(code_server_command(port, host), start_new_session=True)
    _tell_when_it_serves(server, host, port, asked)
    while not asked and server.poll() is None:
        time.sleep(_LOOK_SECONDS)
    if not asked:
        raise CodeServerError(f"Dagster's code server ended by itself with status {server.returncode}")
    _tell_systemd("STOPPING=1")
    _end_runs(server, host, port)
    _end(server)


def _tell_when_it_serves(server: subprocess.Popen[bytes], host: str, port: int, asked: list[int]) -> None:
    end = time.monotonic() + _START_SECONDS
    while not asked and server.poll() is None:
        with suppress(CodeServerError):
            _check(host, port)
            _tell_systemd("READY=1")
            return
        if time.monotonic() > end:
            _end(server)
            raise CodeServerError(f"the definitions were not served within {_START_SECONDS:.0f} s")
        time.sleep(_LOOK_SECONDS)


def _check(host: str, port: int) -> None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    near = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  asked, not listened on
    with grpc.insecure_channel(f"{near}:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service="DagsterApi")
        try:
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=3).status
        except grpc.RpcError as error:
            raise CodeServerError(f"no code server serves at {near}:{port}: {error.code().name}") from None
    if status != health_pb2.HealthCheckResponse.SERVING:
        raise CodeServerError(f"the code server at {near}:{port} does not serve")


def _end_runs(server: subprocess.Popen[bytes], host: str, port: int) -> None:
    """Through Dagster, so that the runs are cancelled and not failed; by signals where it does not answer."""
    workers = _workers(server)
    if workers:
        try:
            _cancel_runs(host, port)
        except Exception as error:
            log.warning("runs cannot be cancelled through Dagster", error=type(error).__name__)
        else:
            psutil.wait_procs(workers, timeout=_LEAVE_SECONDS)
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = _workers(server)
        for worker in left:
            with suppress(psutil.Error):
                worker.send_signal(number)
        psutil.wait_procs(left, timeout=_SIGNAL_SECONDS)


def _cancel_runs(host: str, port: int) -> None:
    import dagster as dg
    from dagster._grpc.client import DagsterGrpcClient
    from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
    from dagster._serdes import deserialize_value

    near = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  asked, not listened on
    client = DagsterGrpcClient(port=port, host=near)
    at_work = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
    with dg.DagsterInstance.get() as instance:
        for run in instance.get_runs(at_work):
            # Another code server's runs are its own business.
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
            if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
                instance.run_launcher.terminate(run.run_id)


def _workers(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with suppress(psutil.Error):
        children = psutil.Process(server.pid).children()
        return [child for child in children if not is_accessory(child)]
    return []


def _end(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if server.poll() is None:
            server.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                server.wait(_SIGNAL_SECONDS)


def _tell_systemd(state: str) -> None:
    """The notification protocol of systemd; without systemd, nothing."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
