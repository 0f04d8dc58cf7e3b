"""The entry point of realpin."""

from realpin.settings import Settings
from realpin.wiring import build
from services.ops.process import run_service

if __name__ == "__main__":
    run_service("realpin", Settings, build)
