"""The entry point of roadrunner."""

from roadrunner.settings import Settings
from roadrunner.wiring import build
from services.ops.process import run_async_service

if __name__ == "__main__":
    run_async_service("roadrunner", Settings, build)
