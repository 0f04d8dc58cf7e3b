"""The entry point of aperture."""

from aperture.settings import Settings
from aperture.wiring import build
from services.ops.process import run_service

if __name__ == "__main__":
    run_service("aperture", Settings, build)
