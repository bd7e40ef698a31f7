"""TLS with pymemcache, Python's ssl (which is OpenSSL), and the openssl command, which makes the certificates, too."""

import re
import shlex
import socket
import ssl
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from pymemcache.client.base import Client


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


def write_certificate(directory, name, authority=None, common_name="localhost"):
    """NAME.pem and NAME.key: an authority's own, or one that it signed."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]
    subject = ["-subj", f"/CN={common_name}"]
    if authority is None:
        openssl("req", "-x509", *key, *subject, "-days", "2", "-out", f"{name}.pem", cwd=directory)
        return
    (directory / "extensions").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("req", *key, *subject, "-out", f"{name}.csr", cwd=directory)
    signed_by = ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial"]
    openssl("x509", "-req", "-in", f"{name}.csr", *signed_by, "-days", "2", "-extfile", "extensions",
            "-out", f"{name}.pem", cwd=directory)


@pytest.fixture
def files(tmp_path):
    write_certificate(tmp_path, "ca", common_name="a private authority")
    write_certificate(tmp_path, "server", "ca")
    write_certificate(tmp_path, "client", "ca", common_name="a client")
    return tmp_path


@pytest.fixture
def start_tls(start_server, files):
    def start(*options):
        names = f"ssl_chain_cert={files}/server.pem,ssl_key={files}/server.key,ssl_ca_cert={files}/ca.pem"
        return start_server("-Z", "-o", names, *options)

    return start


def context(files, identity=None):
    trusting = ssl.create_default_context(cafile=files / "ca.pem")
    if identity:
        trusting.load_cert_chain(files / f"{identity}.pem", files / f"{identity}.key")
    return trusting


def client(server, files, identity=None):
    return Client(server.address, tls_context=context(files, identity), timeout=20)


def test_pymemcache_works_over_tls(start_tls, files):
    with closing(client(start_tls(), files)) as cache:
        assert cache.set("greeting", b"hello")
        assert cache.get("greeting") == b"hello"
        large = bytes(range(256)) * 3500
        assert cache.set("large", large)
        assert cache.get("large") == large
        pairs = {f"key-{number}": str(number).encode() for number in range(5000)}
        assert cache.set_many(pairs) == []
        assert cache.get_many(list(pairs)) == pairs
        assert cache.incr("nothing", 1) is None
        assert cache.stats()[b"ssl_handshake_errors"] == 0


def test_pymemcache_shows_a_certificate_where_one_is_required(start_tls, files):
    server = start_tls("-o", "ssl_verify_mode=2")
    with closing(client(server, files, "client")) as cache:
        assert cache.set("k", b"v")
    with pytest.raises(OSError):
        client(server, files).get("k")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(start_tls, files, version):
    server = start_tls("-o", "ssl_session_cache")
    trusting = context(files)
    trusting.minimum_version = trusting.maximum_version = version
    session = None
    for is_again in [False, True]:
        with socket.create_connection(server.address, 20) as plain:
            with trusting.wrap_socket(plain, server_hostname="localhost", session=session) as secure:
                secure.sendall(b"mn\r\n")
                assert secure.recv(100) == b"MN\r\n"
                assert secure.version() == version.name.replace("v1_", "v1.")
                assert secure.session_reused == is_again
                session = secure.session


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_before_1_2_is_refused(start_tls, files):
    server = start_tls("-o", "ssl_min_version=0")
    old = context(files)
    # Or OpenSSL would not even ask.
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(server.address, 20) as plain, pytest.raises(OSError):
        old.wrap_socket(plain, server_hostname="localhost")
    assert "ssl_min_version=0 means 2 here" in server.words
    with closing(client(server, files)) as cache:
        assert cache.stats()[b"ssl_handshake_errors"] == 1


def test_certificates_change_while_clients_work(start_tls, files):
    server = start_tls()
    is_done, failures = threading.Event(), []

    def work():
        try:
            with closing(client(server, files)) as cache:
                number = 0
                while not is_done.is_set():
                    cache.set("k", str(number).encode())
                    assert cache.get("k") == str(number).encode()
                    number += 1
        except Exception as failure:  # told by the thread that started this one
            failures.append(failure)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        shown = set()
        for _ in range(3):
            with socket.create_connection(server.address, 20) as plain:
                with context(files).wrap_socket(plain, server_hostname="localhost") as secure:
                    shown.add(secure.getpeercert(binary_form=True))
                    write_certificate(files, "server", "ca")
                    secure.sendall(b"refresh_certs\r\n")
                    assert secure.recv(1000) == b"OK\r\n"
            time.sleep(0.05)
        assert len(shown) == 3
    finally:
        is_done.set()
        worker.join()
    assert failures == []


def s_client(server, files, *options, asks="mn\r\nquit\r\n"):
    """What the openssl command says, connected to the server, and whether it could connect."""
    command = ["openssl", "s_client", "-connect", server.name, "-servername", "localhost", "-ign_eof"]
    checks = ["-CAfile", "ca.pem", "-verify_return_error", "-verify_hostname", "localhost"]
    # Or OpenSSL would not even ask for old versions.
    level = ["-cipher", "DEFAULT:@SECLEVEL=0"]
    ended = subprocess.run(
        [*command, *checks, *level, *options], cwd=files, input=asks.encode(), capture_output=True, timeout=20
    )
    return ended.stdout.decode(), ended.returncode == 0


def test_s_client_stores_and_reads(start_tls, files):
    server = start_tls()
    asks = "set greeting 0 0 5\r\nhello\r\nget greeting\r\nquit\r\n"
    said, is_connected = s_client(server, files, asks=asks)
    assert is_connected
    assert "STORED\r\nVALUE greeting 0 5\r\nhello\r\nEND\r\n" in said
    assert "Verification: OK" in said
    with closing(client(server, files)) as cache:
        assert cache.get("greeting") == b"hello"


@pytest.mark.parametrize("oldest", [2, 3])
def test_s_client_is_let_in_with_versions_that_are_spoken(start_tls, files, oldest):
    server = start_tls("-o", f"ssl_min_version={oldest}")
    for version, number in [("-tls1_1", 1), ("-tls1_2", 2), ("-tls1_3", 3)]:
        said, is_connected = s_client(server, files, version)
        assert is_connected == (number >= oldest), said
        assert ("MN\r\n" in said) == (number >= oldest), said
    with closing(client(server, files)) as cache:
        assert cache.stats()[b"ssl_handshake_errors"] == oldest - 1


@pytest.mark.parametrize("is_cached", [False, True])
@pytest.mark.parametrize(
    "options, is_always_reused",
    [
        # By a ticket, with which the server remembers nothing.
        (["-tls1_2"], True),
        (["-tls1_3"], True),
        # By what the server remembers: of a client without tickets, and of ones that showed a certificate.
        (["-tls1_2", "-no_ticket"], False),
        (["-tls1_2", "-cert", "client.pem", "-key", "client.key"], False),
        (["-tls1_3", "-cert", "client.pem", "-key", "client.key"], False),
    ],
)
def test_s_client_resumes_its_session(start_tls, files, options, is_always_reused, is_cached):
    verify = ["-o", "ssl_verify_mode=2"] if "-cert" in options else []
    server = start_tls(*verify, *(["-o", "ssl_session_cache"] if is_cached else []))
    said, is_connected = s_client(server, files, *options, "-sess_out", "session.pem")
    assert is_connected and "MN\r\n" in said and re.search(r"^New, TLSv1", said, re.MULTILINE), said
    if not (files / "session.pem").exists() or not (files / "session.pem").stat().st_size:
        assert not is_always_reused and not is_cached, "no session was offered"
        return
    said, is_connected = s_client(server, files, *options, "-sess_in", "session.pem")
    assert is_connected and "MN\r\n" in said, said
    is_reused = re.search(r"^Reused, TLSv1", said, re.MULTILINE) is not None
    assert is_reused == (is_always_reused or is_cached), said


def test_each_kind_of_listener_lets_in_whom_it_should(start_tls, files):
    kinds = ["as chosen", "notls", "btls", "mtls"]
    listeners = ",".join(f"{kind}:127.0.0.1:0" for kind in kinds[1:])
    server = start_tls("-l", listeners, "-o", "ssl_verify_mode=2")

    def is_answered(port, trusting):
        with socket.create_connection((server.host, port), 20) as plain:
            try:
                opened = trusting.wrap_socket(plain, server_hostname="localhost") if trusting else plain
                with closing(opened):
                    opened.sendall(b"mn\r\n")
                    return opened.recv(100) == b"MN\r\n"
            except OSError:
                return False

    shown = [None, context(files), context(files, "client")]
    let_in = {
        kind: [is_answered(port, trusting) for trusting in shown]
        for kind, port in zip(kinds, server.ports, strict=True)
    }
    assert let_in == {
        "as chosen": [False, False, True],
        "notls": [True, False, False],
        "btls": [False, True, True],
        "mtls": [False, False, True],
    }


def test_the_manuals_example_works_as_it_stands(start_server, tmp_path, monkeypatch):
    manual = (Path(__file__).parents[2] / "src/manual/tls.md").read_text()
    shell, python = re.search(
        r"A certificate to try it with:\n\n```sh\n(.*?)```\n\n```python\n(.*?)```", manual, re.DOTALL
    ).groups()
    certificate, _, server_line = shell.rstrip("\n").rpartition("\n")
    monkeypatch.chdir(tmp_path)
    subprocess.run(["sh", "-e", "-c", certificate], check=True, capture_output=True)
    program, *options = shlex.split(server_line)
    assert program == "ferrocached"
    server = start_server(*options)
    # Its port was chosen by the system.
    said = python.replace('Client("localhost"', f'Client("localhost:{server.port}"')
    assert said != python
    names = {}
    exec(said, names)
    with closing(names["cache"]) as cache:
        assert cache.get("greeting") == b"hello"
