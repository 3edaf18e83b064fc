"""Which version this is, exactly: package, sources, migrations, and the settings that matter."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from sketchy_orchestration import __version__
from sketchy_orchestration.settings import Settings

# What differs from place to place without making another behaviour: where things are, who is told, and the
# secrets, which are rotated at any time.
_OF_THE_PLACE = frozenset(
    {
        "environment",
        "log_level",
        "sketchy_home",
        "postgres_version",
        "pubnub_origin",
        "pubnub_ssl",
        "supabase_url",
        "supabase_jwks_url",
        "supabase_jwt_issuer",
        "alert_notifier",
        "alert_runbook_url",
        "region",
        "keys_rotated",
        "pubnub_monthly_limit",
        "advisories_url",
        "gateway_host",
        "gateway_port",
        "gateway_allowed_origins",
        "gateway_trusted_proxies",
        "legacy_handler",
    }
)


@dataclass(frozen=True, slots=True)
class Version:
    """A version, bound to which a verdict is given; each part but `package` is the beginning of a sha256.

    Attributes:
        package: the version of the package.
        build: its sources.
        migrations: the migrations it brings, their way back included.
        settings: the settings that change how it behaves; see `settings_fingerprint`.
    """

    package: str
    build: str
    migrations: str
    settings: str

    @property
    def label(self) -> str:
        """Short, for tables and logs: 1.4.0+3f2a91c0/7be01234."""
        return f"{self.package}+{self.build[:8]}/{self.settings[:8]}"

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def settings_fingerprint(settings: Settings) -> str:
    """The same wherever the same behaviour is configured; secrets, addresses and names are not in it."""
    values = {
        name: str(getattr(settings, name))
        for name, field in type(settings).model_fields.items()
        if name not in _OF_THE_PLACE and "SecretStr" not in str(field.annotation)
    }
    return _digest(json.dumps(values, sort_keys=True).encode())


def this_version(settings: Settings) -> Version:
    """The version of the code that runs here, with these settings."""
    build, migrations = _files()
    return Version(__version__, build, migrations, settings_fingerprint(settings))


@lru_cache(maxsize=1)
def _files() -> tuple[str, str]:
    # Once a process: files may change under a running one, which goes on as what it was loaded as.
    from sketchy_orchestration.database.sql_files import sql_folder

    package = Path(__file__).parent
    return _of_folder(package, "*.py"), _of_folder(sql_folder("migrations"), "*.sql")


def _of_folder(folder: Path, pattern: str) -> str:
    lines = [
        f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(folder.rglob(pattern))
    ]
    return _digest("\n".join(lines).encode())


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]
