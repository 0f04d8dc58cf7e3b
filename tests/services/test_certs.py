"""`feedmesh certs`: a CA, a certificate for each service, and their replacement."""

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.authority import Store
from cli.certs import NAMES
from cli.main import app
from services.rpc.credentials import read
from tests.services.certificates import credentials_of, files_of


def certs(folder: Path, *words: str, code: int = 0) -> str:
    ran = CliRunner().invoke(app, ["certs", *words, "--dir", str(folder)])
    assert ran.exit_code == code, ran.output
    return ran.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "certs"
    certs(made, "init")
    certs(made, "issue")
    return made


def test_every_service_and_the_operator_have_one_that_their_owner_alone_can_read(folder: Path) -> None:
    for service in NAMES:
        credentials_of(Store(folder), service).must_name(service)
    assert {path.name for path in folder.iterdir()} == {f"{n}.{end}" for n in ("ca", *NAMES) for end in ("pem", "key")}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_openssl_finds_nothing_wrong_with_them(folder: Path) -> None:
    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(folder / "ca.pem")]
        ran = subprocess.run([*command, str(folder / "apiary.pem")], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr


def test_rotate_replaces_every_pair_and_keeps_their_names(folder: Path) -> None:
    certs(folder, "issue", "web", "--name", "web.example", "--name", "10.0.0.1")
    before = {service: read(files_of(Store(folder), service)) for service in NAMES}
    said = certs(folder, "rotate", "--days", "30")
    assert "web.pem  valid for 30.0 days" in said
    for service in NAMES:
        after = read(files_of(Store(folder), service))
        assert after.names == before[service].names
        assert (after.ca, after.key == before[service].key) == (before[service].ca, False)
    assert ("DNS", "web.example") in before["web"].names
    assert ("IP Address", "10.0.0.1") in before["web"].names


def test_a_ca_is_replaced_in_three_steps_of_which_each_fits_the_one_before(folder: Path) -> None:
    store = Store(folder)

    def parts() -> tuple[bytes, bytes, bytes]:
        return tuple((folder / name).read_bytes() for name in ("ca.pem", "apiary.pem", "apiary.key"))  # type: ignore[return-value]

    stages = [parts()]
    for step in (1, 2, 3):
        assert f"step {step} of 3" in certs(folder, "rotate", "--ca")
        stages.append(parts())
    assert [ca.count(b"BEGIN") for ca, _, _ in stages] == [1, 2, 2, 1]
    assert stages[0][0] != stages[3][0]
    assert not store.has("next-ca")
    mixed = folder.parent / "mixed"
    mixed.mkdir()
    for one, other in pairwise(stages):  # a host that has the files, and one that has those of before
        for ca, pair in ((one[0], other), (other[0], one)):
            (mixed / "ca.pem").write_bytes(ca)
            (mixed / "apiary.pem").write_bytes(pair[1])
            (mixed / "apiary.key").write_bytes(pair[2])
            read(files_of(Store(mixed), "apiary"))


def test_a_certificate_ends_with_its_ca(tmp_path: Path) -> None:
    certs(tmp_path, "init", "--days", "5")
    assert "valid for 5.0 days" in certs(tmp_path, "issue", "apiary", "--days", "90")


def test_what_can_not_be_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    assert "has a CA already" in certs(folder, "init", code=2)
    assert "'apiarys': there is no such service; there are roadrunner" in certs(folder, "issue", "apiarys", code=2)
    assert "every service has one" in certs(folder, "issue")
    assert "--domain 'Ä b': allowed are names" in certs(tmp_path / "new", "init", "--domain", "Ä b", code=2)
    assert "`feedmesh certs init`" in certs(tmp_path / "none", "issue", code=1).replace("\n", " ")
    assert "--name 'ü.example'" in certs(folder, "issue", "web", "--name", "ü.example", code=2)
    (folder / "ca.key").write_bytes((folder / "web.key").read_bytes())
    assert "ca.key: is not the key of" in certs(folder, "issue", "web", code=2).replace("\n", " ")
    (folder / "ca.pem").write_text("nothing")
    assert "ca.pem: no certificates in PEM" in certs(folder, "rotate", code=2).replace("\n", " ")
