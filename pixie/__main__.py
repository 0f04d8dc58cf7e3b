"""The entry point of pixie."""

from pixie.settings import Settings
from pixie.wiring import build
from services.ops.process import run_service

if __name__ == "__main__":
    run_service("pixie", Settings, build)
