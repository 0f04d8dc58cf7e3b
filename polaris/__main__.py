"""The entry point of polaris."""

from polaris.settings import Settings
from polaris.wiring import build
from services.ops.process import run_service

if __name__ == "__main__":
    run_service("polaris", Settings, build)
