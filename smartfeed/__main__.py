"""The entry point of smartfeed."""

from services.ops.process import run_service
from smartfeed.settings import Settings
from smartfeed.wiring import build

if __name__ == "__main__":
    run_service("smartfeed", Settings, build)
