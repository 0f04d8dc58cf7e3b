"""The entry point of rockstore."""

from rockstore.settings import Settings
from rockstore.wiring import build
from services.ops.process import run_service

if __name__ == "__main__":
    run_service("rockstore", Settings, build)
