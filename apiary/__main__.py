"""The entry point of apiary."""

from apiary.settings import Settings
from apiary.wiring import build
from services.ops.process import run_service

if __name__ == "__main__":
    run_service("apiary", Settings, build)
