"""Generates the wire code beside each `.proto`: messages, stubs and their types. Run by `make protos`."""

import sys
from pathlib import Path

from grpc_tools import protoc


def main() -> int:
    """Generate for every file in protos/; the exit code is protoc's."""
    sources = sorted(str(path) for path in Path("protos").glob("*.proto"))
    return int(
        protoc.main(
            [
                "protoc",
                "-I.",
                "--python_out=.",
                "--mypy_out=quiet:.",
                "--grpc_python_out=.",
                "--mypy_grpc_out=quiet:.",
                *sources,
            ]
        )
    )


if __name__ == "__main__":
    sys.exit(main())
