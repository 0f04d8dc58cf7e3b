"""The entry point of feedgen."""

from feedgen.settings import Settings
from feedgen.wiring import build
from services.ops.process import run_async_service

if __name__ == "__main__":
    run_async_service("feedgen", Settings, build)
