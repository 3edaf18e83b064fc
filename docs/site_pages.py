"""What the site has beside the files in docs/: pages made from the code, and the menu's long parts.

MkDocs runs it as a hook; nothing of it is kept, so nothing of it can be out of date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
_TOPICS = {
    "How to": (
        "flags",
        "rollout",
        "validation",
        "deployment",
        "rollback",
        "alerts",
        "rotate-secrets",
    ),
    "Reference": ("gateway", "client", "service-levels", "pubnub-standin"),
    "Explanation": ("scaling", "benchmarks", "faults"),
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the menu from what is there."""
    nav: list[Any] = list(config.nav or [])
    named = {next(iter(entry)): entry for entry in nav}
    placed: set[str] = {"index.md", "tutorial.md"}
    how_to = [*named["How to"]["How to"], *_there("How to")]
    reference = [{title: f"reference/{name}.md"} for name, title in _GENERATED.items()]
    explanation = [
        {"Architecture": "explanation/architecture.md"},
        *_there("Explanation"),
        {"Decisions": [f"decisions/{path.name}" for path in sorted((DOCS / "decisions").glob("*.md"))]},
    ]
    runbooks = [f"runbooks/{path.name}" for path in sorted((DOCS / "runbooks").glob("*.md"))]
    for stems in _TOPICS.values():
        placed |= {f"{stem}.md" for stem in stems}
    others = sorted({path.name for path in DOCS.glob("*.md")} - placed)
    config.nav = [
        named["Home"],
        named["Tutorial"],
        {"How to": how_to},
        {"Reference": [*reference, *_there("Reference"), *others]},
        {"Explanation": explanation},
        {"Runbooks": runbooks},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages made from the code."""
    for name in _GENERATED:
        files.append(File.generated(config, f"reference/{name}.md", content=PAGES[name]()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Show what is linked in the repository by its path: the site has only docs/."""

    def shown(found: re.Match[str]) -> str:
        target = (DOCS / page.file.src_uri).parent.joinpath(found[2].partition("#")[0]).resolve()
        if target.is_relative_to(DOCS) or not target.parent.exists():
            return found[0]
        return f"{found[1]} (`{target.relative_to(DOCS.parent)}`)"

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)]+)\)", shown, markdown)


def _there(topic: str) -> list[str]:
    return [f"{stem}.md" for stem in _TOPICS[topic] if (DOCS / f"{stem}.md").exists()]


def _table(*head: str, rows: Iterator[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = (" ".join(str(cell).split()).replace("|", "\\|").replace("<", "&lt;") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every setting."""
    from sketchy_orchestration.settings_files import grouped

    parts = [
        "# Settings\n\nEach is an environment variable, or a line of a `.env` file beside you. What must change while"
        " the system runs is a [flag](../flags.md). `sketchy settings list` says what is set; files to begin with:"
        " `sketchy settings file production`.\n"
    ]
    for group, members in grouped():
        rows = (
            (f"`{one.name}`", f"`{one.default}`" if one.default else "", one.description, one.allowed)
            for one in members
        )
        parts.append(
            f"## {group.title}\n\n{group.about}\n\n"
            + _table("name", "default", "meaning", "allowed", rows=rows)
        )
    return "\n".join(parts)


def commands_page() -> str:
    """Every command with its options, from the command line itself."""
    import typer

    from sketchy_orchestration.cli.main import app

    parts = [
        "# Command line\n\n"
        "| exit code | meaning |\n| --- | --- |\n"
        "| 0 | done; for a question: yes, healthy, nothing to do |\n"
        "| 1 | an error (one line on stderr), or the answer is no |\n"
        "| 2 | the command line is wrong; nothing was done |\n"
        "| 130 | interrupted |\n\n"
        "Output for people goes to a terminal in colours and without them into a pipe (`NO_COLOR` and `FORCE_COLOR`"
        " are respected). `--json` prints one document for programs. `--debug`, anywhere, shows where an error came"
        " from. Completion: `sketchy completion bash`, `zsh` or `fish`.\n"
    ]

    def walk(command: Any, path: str) -> None:
        children = command.list_commands(None) if hasattr(command, "list_commands") else []
        if path != "sketchy":
            with command.make_context(path, [], resilient_parsing=True) as context:
                context.info_name = path
                parts.append(
                    f"{'##' if path.count(' ') == 1 else '###'} {path}\n\n```text\n{command.get_help(context)}\n```\n"
                )
        for name in children:
            walk(command.get_command(None, name), f"{path} {name}")

    walk(typer.main.get_command(app), "sketchy")
    return "\n".join(parts)


def http_page() -> str:
    """The functions, from the OpenAPI document."""
    from sketchy_orchestration.gateway.app import document, plain_app

    made = document(plain_app())
    parts = [
        "# HTTP\n\nFrom the OpenAPI document (`sketchy gateway openapi`). Errors, bounds and who may call what:"
        " [the gateway](../gateway.md).\n"
    ]
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            parts.append(f"## {method.upper()} {path}\n\n{operation.get('summary', '')}\n")
            rows = ((status, answer["description"]) for status, answer in operation["responses"].items())
            parts.append(_table("status", "meaning", rows=rows))
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if "example" in content:
                parts.append(f"A body:\n\n```json\n{json.dumps(content['example'], indent=2)}\n```\n")
    return "\n".join(parts)


def events_page() -> str:
    """The events as clients receive them, from their JSON Schema."""
    from sketchy_orchestration.gateway.client_types import json_schema
    from sketchy_orchestration.gateway.events import EVENTS

    definitions = json_schema()["$defs"]
    parts = [
        "# Events\n\nJSON Schema and TypeScript types lie in `clients/javascript`. How a client uses `eventId`, `seq`"
        " and `after`: [for client developers](../client.md).\n\n## Envelope\n",
        _fields(definitions["Envelope"]),
    ]
    for name, model in EVENTS.items():
        parts.append(f"## {name}\n")
        parts.append(_fields(definitions[model.__name__]) or "No fields.\n")
    return "\n".join(parts)


def _fields(definition: dict[str, Any]) -> str:
    required = set(definition.get("required", []))
    rows = (
        (f"`{name}`", _kind(found), "" if name in required else "optional", found.get("description", ""))
        for name, found in definition.get("properties", {}).items()
    )
    return _table("field", "type", "", "meaning", rows=rows)


def _kind(found: dict[str, Any]) -> str:
    if "$ref" in found:
        return str(found["$ref"]).rpartition("/")[2]
    if "anyOf" in found:
        return " or ".join(_kind(one) for one in found["anyOf"])
    if "enum" in found:
        return ", ".join(map(str, found["enum"]))
    kind = found.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    return f"list of {_kind(found['items'])}" if kind == "array" and "items" in found else str(kind)


def metrics_page() -> str:
    """Every metric of /metrics that tells of the whole system."""
    from sketchy_orchestration.monitoring import metric_names

    rows = sorted(
        (
            f"`{one.name}`",
            type(one).__name__.lower(),
            f"`{label}`" if (label := getattr(one, "label", None)) else "",
            one.help,
        )
        for one in _metrics(metric_names)
    )
    return (
        "# Metrics\n\n`GET /metrics` of the gateway; alert rules and the dashboard are in `deploy/prometheus` and"
        " `deploy/grafana`. What is promised: [service levels](../service-levels.md).\n\n"
        + _table("name", "kind", "label", "meaning", rows=iter(rows))
    )


def _metrics(module: Any) -> Iterator[Any]:
    kinds = (module.Gauge, module.Count, module.Times)
    seen: set[str] = set()

    def found(value: object) -> Iterator[Any]:
        if isinstance(value, kinds):
            if value.name not in seen:
                seen.add(value.name)
                yield value
        elif isinstance(value, dict):
            yield from (one for each in value.values() for one in found(each))
        elif isinstance(value, list | tuple | set | frozenset):
            yield from (one for each in value for one in found(each))

    for value in vars(module).values():
        yield from found(value)


def sql_page() -> str:
    """The tables and functions of the schema, from the migrations."""
    sql = DOCS.parent / "sql" / "migrations"
    tables: list[tuple[object, ...]] = []
    functions: list[tuple[object, ...]] = []
    for path in sorted(sql.glob("*.up.sql")):
        text = path.read_text(encoding="utf-8")
        comments = dict(re.findall(r"comment on table orchestration\.(\w+) is\s+'((?:[^']|'')*)'", text))
        for before, name in re.findall(
            r"((?:^--.*\n)*)create (?:unlogged )?table (?:if not exists )?orchestration\.(\w+)",
            text,
            re.MULTILINE,
        ):
            said = comments.get(name, " ".join(line.lstrip("- ") for line in before.splitlines()))
            tables.append((f"`{name}`", said.replace("''", "'"), path.name[:4]))
        for comment, name, arguments, returns in re.findall(
            r"((?:^--.*\n)*)create (?:or replace )?function orchestration\.(\w+)\(([^)]*)\)\s*returns ([\w\[\]. ]+)",
            text,
            re.MULTILINE,
        ):
            said = " ".join(line.lstrip("- ") for line in comment.splitlines())
            functions.append(
                (f"`{name}({' '.join(arguments.split())})`", f"`{returns.strip()}`", said, path.name[:4])
            )
    return (
        "# SQL contract\n\nEverything of ours is in the schema `orchestration`; outside it there are triggers and"
        " versions of the application's functions that know enrolment, and `sketchy migrate down` gives back exactly"
        " what was there. The roles `sketchy_timer`, `sketchy_relay`, `sketchy_gateway` and `sketchy_operator` may do"
        " what the role matrix says; nobody else may do anything.\n\n## Tables\n\n"
        + _table("table", "what a row is", "migration", rows=iter(tables))
        + "\n## Functions\n\n"
        + _table("function", "returns", "what it does", "migration", rows=iter(functions))
    )


_GENERATED = {
    "settings": "Settings",
    "commands": "Command line",
    "http": "HTTP",
    "events": "Events",
    "metrics": "Metrics",
    "sql": "SQL contract",
}
PAGES = {
    "settings": settings_page,
    "commands": commands_page,
    "http": http_page,
    "events": events_page,
    "metrics": metrics_page,
    "sql": sql_page,
}
