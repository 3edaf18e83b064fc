"""sketchy pubnub: the local PubNub: run it, watch it, publish to it, break it."""

from __future__ import annotations

import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from sketchy_orchestration.cli.joining import joined_or_own_settings
from sketchy_orchestration.local.pubnub import FaultKind, StandInConfig, StandInError
from sketchy_orchestration.local.pubnub.faults import OPERATIONS
from sketchy_orchestration.local.pubnub.process import serve as serve_stand_in
from sketchy_orchestration.local.pubnub.remote import DEFAULT_PORT, RunningStandIn
from sketchy_orchestration.settings import Settings, settings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The local PubNub: run it, watch it, publish to it, break it.",
)
fault = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Switch faults on and off while it runs.",
)
app.add_typer(fault, name="fault")

_ORIGIN = typer.Option(
    None,
    "--origin",
    help=f"host:port of the server. Default: PUBNUB_ORIGIN, else the running stack's, else"
    f" 127.0.0.1:{DEFAULT_PORT}.",
)
_RECORD = typer.Option(
    None, "--record", help="Append everything accepted to this file, one JSON object a line."
)
_KIND = typer.Argument(help="What goes wrong.")
_OPERATION = typer.Option(
    [], "--operation", help=f"Only for this: {', '.join(OPERATIONS)}. May be given more than once."
)
_WAIT_SECONDS = 20


def _running(origin: str | None) -> RunningStandIn:
    return RunningStandIn(origin or joined_or_own_settings().pubnub_origin or f"127.0.0.1:{DEFAULT_PORT}")


def _keys(given: Settings) -> tuple[str, str]:
    defaults = StandInConfig()
    publish_key, subscribe_key = given.pubnub_publish_key, given.pubnub_subscribe_key
    return (
        publish_key.get_secret_value() if publish_key else defaults.publish_key,
        subscribe_key.get_secret_value() if subscribe_key else defaults.subscribe_key,
    )


@app.command(
    epilog="Examples:  sketchy pubnub serve   |   sketchy pubnub serve --port 0 --record accepted.jsonl"
)
def serve(
    port: int = typer.Option(DEFAULT_PORT, "--port", help="Port on 127.0.0.1; 0 takes any free one."),
    enforce_access: bool = typer.Option(
        False, "--enforce-access", help="Refuse what no token or signature allows; needs PUBNUB_SECRET_KEY."
    ),
    publish_rate: float | None = typer.Option(
        None, "--publish-rate", help="Publishes a second beyond which 429 is answered. Default: no limit."
    ),
    record: Path | None = _RECORD,
    seed: int = typer.Option(0, "--seed", help="Of every random decision that faults make."),
) -> None:
    """Run the server until Ctrl-C. Prints `listening on http://127.0.0.1:PORT` when ready.

    Keys are those of PUBNUB_PUBLISH_KEY, PUBNUB_SUBSCRIBE_KEY and PUBNUB_SECRET_KEY; without them
    pub-c-local and sub-c-local, and no secret key.
    """
    publish_key, subscribe_key = _keys(settings())
    secret = settings().pubnub_secret_key
    serve_stand_in(
        StandInConfig(
            port=port,
            publish_key=publish_key,
            subscribe_key=subscribe_key,
            secret_key=secret.get_secret_value() if secret else None,
            enforce_access=enforce_access,
            publish_rate=publish_rate,
            record_file=record,
            seed=seed,
        )
    )


@app.command(
    epilog="Examples:  sketchy pubnub tail   |   sketchy pubnub tail --channel 'room-*' --since 0 --json"
)
def tail(
    channel: str = typer.Option("*", "--channel", help="Only channels that match this shell pattern."),
    since: int | None = typer.Option(
        None, "--since", min=0, help="Begin with this number of the record; 0: all. Default: what comes now."
    ),
    limit: int | None = typer.Option(None, "--limit", min=1, help="Stop after so many messages."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
    origin: str | None = _ORIGIN,
) -> None:
    """Show what the server accepts, as it accepts it, until Ctrl-C."""
    running = _running(origin)
    console = Console(highlight=False, soft_wrap=True)
    after = running.record(limit=0)["count"] if since is None else since
    shown = 0
    while limit is None or shown < limit:
        answer = running.record(after, wait=_WAIT_SECONDS)
        for entry in answer["entries"]:
            after = entry["index"] + 1
            if not fnmatchcase(entry["channel"], channel):
                continue
            _show(console, entry, as_json)
            shown += 1
            if shown == limit:
                return
        if not answer["entries"]:
            # A server started anew counts from 0 again.
            after = min(after, answer["count"])


def _show(console: Console, entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(entry, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return
    text = json.dumps(entry["message"], ensure_ascii=False)
    kind = "" if entry["operation"] == "publish" else f" {entry['operation']}"
    lost = f" ({entry['fault']})" if entry["fault"] else ""
    console.print(f"{entry['timetoken']} {entry['channel']}{kind}{lost} {text}", markup=False)


@app.command(epilog="""Example:  sketchy pubnub publish room-1 '{"text":"hello"}'""")
def publish(
    channel: str = typer.Argument(help="The channel."),
    message: str = typer.Argument(help="The message, as JSON."),
    signal: bool = typer.Option(False, "--signal", help="As a signal: 64 bytes at most, never stored."),
    store: bool | None = typer.Option(
        None, "--store/--no-store", help="Keep it in history, or not. Default: as the server is set."
    ),
    origin: str | None = _ORIGIN,
) -> None:
    """Publish one message and print its timetoken."""
    try:
        value = json.loads(message)
    except ValueError:
        raise StandInError(
            f"the message {message[:40]!r} is not JSON", hint="text needs quotes of its own: '\"text\"'"
        ) from None
    publish_key, subscribe_key = _keys(joined_or_own_settings())
    timetoken = _running(origin).publish(
        channel, value, publish_key=publish_key, subscribe_key=subscribe_key, signal=signal, store=store
    )
    typer.echo(timetoken)


@app.command(epilog="Examples:  sketchy pubnub stats   |   sketchy pubnub stats --json")
def stats(
    as_json: bool = typer.Option(False, "--json", help="As one JSON object."),
    origin: str | None = _ORIGIN,
) -> None:
    """Counts since the server's start, and what it holds now."""
    counts = _running(origin).stats()
    if as_json:
        typer.echo(json.dumps(counts))
        return
    table = Table("what", "count", box=None)
    for name, value in counts.items():
        if isinstance(value, dict):
            for key, count in value.items():
                table.add_row(f"{name.replace('_', ' ')}: {key}", str(count))
        else:
            table.add_row(name.replace("_", " "), str(value))
    Console().print(table)


@fault.command(
    "on",
    epilog="Examples:  sketchy pubnub fault on latency --delay 0.5 --jitter 0.2 --operation publish   |   "
    "sketchy pubnub fault on reset-after --channel 'room-*' --share 0.1 --seconds 30   |   "
    "sketchy pubnub fault on status --status 500 --times 3",
)
def fault_on(
    kind: FaultKind = _KIND,
    operation: list[str] = _OPERATION,
    channel: str = typer.Option("*", "--channel", help="Only for channels that match this shell pattern."),
    share: float = typer.Option(1.0, "--share", help="Of the matching requests, above 0 and at most 1."),
    seconds: float | None = typer.Option(None, "--seconds", help="How long. Default: until switched off."),
    times: int | None = typer.Option(None, "--times", help="Strike so many requests at most."),
    delay: float | None = typer.Option(None, "--delay", help="Seconds: latency, or between trickled bytes."),
    jitter: float | None = typer.Option(None, "--jitter", help="Seconds at random on top of --delay."),
    status: int | None = typer.Option(None, "--status", help="HTTP status, for status and html."),
    body: str | None = typer.Option(None, "--body", help="Body, for status."),
    retry_after: float | None = typer.Option(None, "--retry-after", help="Seconds, for rate-limited."),
    accept: bool | None = typer.Option(
        None, "--accept/--refuse", help="Whether the request takes effect all the same. Default: by kind."
    ),
    origin: str | None = _ORIGIN,
) -> None:
    """Switch a fault on and print its number."""
    given: dict[str, Any] = {
        "kind": kind.value,
        "operations": operation,
        "channels": channel,
        "share": share,
        "seconds": seconds,
        "times": times,
        "delay": delay,
        "jitter": jitter,
        "status": status,
        "body": body,
        "retry_after": retry_after,
        "accept": accept,
    }
    number = _running(origin).fault_on({name: value for name, value in given.items() if value is not None})
    typer.echo(number)


@fault.command("off", epilog="Examples:  sketchy pubnub fault off   |   sketchy pubnub fault off 3")
def fault_off(
    number: int | None = typer.Argument(None, help="The fault's number. Default: all."),
    origin: str | None = _ORIGIN,
) -> None:
    """Switch one fault off, or all."""
    running = _running(origin)
    off = running.fault_off(number)
    if number is not None and not off:
        raise StandInError(f"there is no fault {number} on", hint="sketchy pubnub fault list shows them")
    typer.echo(f"{off} switched off")


@fault.command("list", epilog="Example:  sketchy pubnub fault list")
def fault_list(
    origin: str | None = _ORIGIN,
    as_json: bool = typer.Option(False, "--json", help="Machine-readable, one array."),
) -> None:
    """Show the faults that are on."""
    faults = _running(origin).faults()
    if as_json:
        typer.echo(json.dumps(faults, indent=2))
        return
    if not faults:
        typer.echo("no fault is on")
        return
    table = Table("number", "kind", "operations", "channels", "share", "struck", box=None)
    for one in faults:
        operations = ", ".join(one["operations"]) or "all"
        table.add_row(
            str(one["number"]),
            one["kind"],
            operations,
            one["channels"],
            str(one["share"]),
            str(one["struck"]),
        )
    Console().print(table)
