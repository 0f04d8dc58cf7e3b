"""What pyproject.toml can't say: the wire code is generated from `protos/*.proto`, into the wheel and into a checkout."""

import os
import shutil
import sys
from pathlib import Path

from grpc_tools import protoc
from setuptools import Command, setup
from setuptools.command.build import SubCommand, build

PROTOS = Path("protos")
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(into: Path) -> None:
    """Write messages, stubs and their types of every `.proto` to `into`/protos. Raises SystemExit with protoc's code."""
    plugins = []
    for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc"):
        found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if found is None:
            raise SystemExit(f"{name} is missing: it is a part of mypy-protobuf")
        plugins.append(f"--plugin={name}={found}")
    kinds = [f"--{kind}={into}" for kind in ("python_out", "grpc_python_out")]
    kinds += [f"--{kind}=quiet:{into}" for kind in ("mypy_out", "mypy_grpc_out")]
    code = protoc.main(["protoc", "-I.", *plugins, *kinds, *map(str, sorted(PROTOS.glob("*.proto")))])
    if code:
        raise SystemExit(code)


class BuildWire(Command, SubCommand):
    """Generate the wire code: into the wheel, or beside the `.proto` files when it is installed to be edited."""

    user_options = [("inplace", "i", "beside the .proto files, for a checkout")]  # noqa: RUF012 - as setuptools has it
    boolean_options = ["inplace"]  # noqa: RUF012

    def initialize_options(self) -> None:
        """As setuptools wants it."""
        self.inplace = self.editable_mode = False
        self.build_lib: str | None = None  # what is None, finalize_options takes from the build

    def finalize_options(self) -> None:
        """Build where the other steps of the build do."""
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def _into(self) -> Path:
        return Path() if self.inplace or self.editable_mode else Path(self.build_lib or "")

    def run(self) -> None:
        """Generate."""
        into = self._into()
        (into / PROTOS).mkdir(parents=True, exist_ok=True)
        generate(into)

    def get_source_files(self) -> list[str]:
        """What a source distribution must hold."""
        return [str(path) for path in sorted(PROTOS.glob("*.proto"))]

    def get_outputs(self) -> list[str]:
        """What was generated."""
        names = [path.stem for path in sorted(PROTOS.glob("*.proto"))]
        return [str(self._into() / PROTOS / f"{name}{suffix}") for name in names for suffix in SUFFIXES]

    def get_output_mapping(self) -> dict[str, str]:
        """Nothing is copied from a source of one's own."""
        return {}


class Build(build):
    """The usual build, and the wire code."""

    sub_commands = [*build.sub_commands, ("build_wire", None)]  # noqa: RUF012


setup(cmdclass={"build": Build, "build_wire": BuildWire})
