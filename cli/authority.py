"""The certificates of a mesh for those without a PKI: its own CA, and one for each service, as files in one folder.

The folder has `ca.pem`, `ca.key`, and `<service>.pem` and `<service>.key`; while the CA is being replaced also `next-ca.pem` and
`next-ca.key`. Only the owner can read them. Keys are of the curve P-256.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.core.durable import replace_durably
from services.core.errors import InvalidArgument, NotFound
from services.rpc.credentials import dns_name, spiffe_id

CA, NEXT = "ca", "next-ca"
BEFORE = timedelta(hours=1)  # a certificate is valid from so long ago: clocks of hosts differ


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Validity(NamedTuple):
    """Of a new certificate."""

    since: datetime
    until: datetime

    @classmethod
    def of_days(cls, days: float) -> "Validity":
        """From now on."""
        now = datetime.now(UTC)
        return cls(now - BEFORE, now + timedelta(days=days))


def authority(domain: str, validity: Validity) -> Pair:
    """A new CA that signs certificates of services, and no other CA's."""
    key, name = ec.generate_private_key(ec.SECP256R1()), _name(f"{domain} CA")
    usage = _usage(key_cert_sign=True, crl_sign=True)
    made = _builder(name, name, key, validity).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    made = made.add_extension(usage, critical=True)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Pair(made.sign(key, hashes.SHA256()), key)


def issued(by: Pair, domain: str, service: str, validity: Validity, more: Iterable[str] = ()) -> Pair:
    """A certificate for a service, at both ends of a call. more: other names of its host, or addresses.

    It ends when its CA does, if that is sooner.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(spiffe_id(domain, service)),
        x509.DNSName(dns_name(domain, service)),
    ]
    names += map(_host, more)
    return _signed(by, service, key, names, validity)


def again(by: Pair, before: x509.Certificate, validity: Validity) -> Pair:
    """The same names, with a new key."""
    names = list(before.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    common = before.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return _signed(by, str(common), ec.generate_private_key(ec.SECP256R1()), names, validity)


def _signed(
    by: Pair, service: str, key: ec.EllipticCurvePrivateKey, names: Sequence[x509.GeneralName], validity: Validity
) -> Pair:
    until = min(validity.until, by.certificate.not_valid_after_utc)
    ca = by.certificate
    made = _builder(_name(service), ca.subject, key, Validity(validity.since, until))
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    made = made.add_extension(_usage(digital_signature=True), critical=True)
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    made = made.add_extension(both, critical=False)
    made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
    made = made.add_extension(issuer, critical=False)
    return Pair(made.sign(by.key, hashes.SHA256()), key)


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, validity: Validity
) -> x509.CertificateBuilder:
    made = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number())
    return made.not_valid_before(validity.since).not_valid_after(validity.until)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(**allowed: bool) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
    )
    return x509.KeyUsage(**{use: allowed.get(use, False) for use in f"{every} encipher_only decipher_only".split()})


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise InvalidArgument(f"--name {name!r}: allowed are names of hosts, in ASCII, and IP addresses") from None


class Store:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether there is a certificate or a key of this name."""
        return any(path.exists() for path in self._paths(name))

    def services(self) -> list[str]:
        """Those that have certificates."""
        return sorted(path.stem for path in self.folder.glob("*.pem") if path.stem not in (CA, NEXT))

    def certificates(self, name: str) -> list[x509.Certificate]:
        """Those of a file. Raises NotFound, InvalidArgument."""
        path = self._paths(name)[0]
        try:
            return x509.load_pem_x509_certificates(_content(path))
        except ValueError as error:
            raise InvalidArgument(f"{path}: no certificates in PEM: {error}") from None

    def pair(self, name: str) -> Pair:
        """The first certificate and its key. Raises NotFound, InvalidArgument."""
        certificate, path = self.certificates(name)[0], self._paths(name)[1]
        try:
            key = serialization.load_pem_private_key(_content(path), None)
        except (ValueError, TypeError) as error:
            raise InvalidArgument(f"{path}: no private key in PEM: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise InvalidArgument(f"{path}: is not the key of {self._paths(name)[0]}")
        return Pair(certificate, key)

    def write(self, name: str, pair: Pair, trusted: Sequence[x509.Certificate] = ()) -> None:
        """Replace both files, the key first. trusted: further certificates that go with this one."""
        pem = serialization.Encoding.PEM
        key = pair.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        certificate, at = self._paths(name)
        replace_durably(at, key)
        replace_durably(certificate, b"".join(one.public_bytes(pem) for one in (pair.certificate, *trusted)))

    def trust(self, certificates: Sequence[x509.Certificate]) -> None:
        """The file of the CA's certificates has these from now on."""
        replace_durably(
            self._paths(CA)[0], b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
        )

    def remove(self, name: str) -> None:
        """Both files."""
        for path in self._paths(name):
            path.unlink(missing_ok=True)

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(
            f"{path}: there is no such file; `feedmesh certs init` and `feedmesh certs issue` make them"
        ) from None
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from None
