"""The scenes of the sweep's tests."""

from tests.integration.sweep.conftest import make_scene, scene

__all__ = ["make_scene", "scene"]
