"""The entry point of scorpion."""

from scorpion.settings import Settings
from scorpion.wiring import build
from services.ops.process import run_service

if __name__ == "__main__":
    run_service("scorpion", Settings, build)
