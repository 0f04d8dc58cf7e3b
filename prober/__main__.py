"""The entry point of prober."""

from prober.settings import Settings
from prober.wiring import build
from services.ops.process import run_async_service

if __name__ == "__main__":
    run_async_service("prober", Settings, build)
