"""Settings of every test."""

from hypothesis import HealthCheck, settings

# Kernels compile at their first call and the machines are shared: how long one example takes says nothing.
settings.register_profile("feedmesh", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("feedmesh")
