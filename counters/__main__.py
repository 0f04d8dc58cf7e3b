"""The entry point of counters."""

from counters.settings import Settings
from counters.wiring import build
from services.ops.process import run_service

if __name__ == "__main__":
    run_service("counters", Settings, build)
