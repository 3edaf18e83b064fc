"""Known vulnerabilities of the packages installed here, from a database in the form of OSV."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from importlib.metadata import distributions

TIMEOUT = 15.0
"""Seconds the whole question may take."""

_LARGEST = 4_000_000


@dataclass(frozen=True, slots=True)
class Advisories:
    """Ids of what is known, by package and version.

    Attributes:
        asked: False when nobody could be asked; then `reason` says why and `found` means nothing.
    """

    asked: bool
    packages: int
    reason: str = ""
    found: dict[str, list[str]] = field(default_factory=dict)


def installed() -> dict[str, str]:
    """Every installed package with its version."""
    return {found.name.lower(): found.version for found in distributions() if found.name}


def known_vulnerabilities(url: str, packages: dict[str, str] | None = None) -> Advisories:
    """Ask once for all packages; an answer that cannot be had is said, never taken for good news."""
    given = installed() if packages is None else packages
    if not url:
        return Advisories(False, len(given), "ADVISORIES_URL is empty")
    names = sorted(given)
    queries = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": given[name]} for name in names]
    try:
        request = urllib.request.Request(  # noqa: S310  an address of the operator's own
            url, json.dumps({"queries": queries}).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            results = json.loads(answer.read(_LARGEST))["results"]
        found = {
            f"{name} {given[name]}": [str(each["id"]) for each in result.get("vulns", [])]
            for name, result in zip(names, results, strict=True)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = getattr(error, "reason", None) or error
        return Advisories(False, len(given), f"{type(error).__name__}: {why}")
    return Advisories(True, len(given), found={name: ids for name, ids in found.items() if ids})
