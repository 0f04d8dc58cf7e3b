"""Settings of every test, and which of them share a process when the suite runs on two cores."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Kernels compile at their first call and the machines are shared: how long one example takes says nothing.
settings.register_profile("feedmesh", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("feedmesh")

MESHES = ("mesh", "browser")  # folders whose tests share a mesh, and start others of their own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay in one process, and a folder's that run whole meshes: one mesh at a time in each process."""
    for item in items:
        folder = Path(item.path).parent.name
        group = folder if folder in MESHES else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
