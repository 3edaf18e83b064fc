from tests.integration.monitoring.conftest import facts, operator, settings

__all__ = ["facts", "operator", "settings"]
