"""The server under test, started and stopped the way an operator would, and clients for it.

The binary is named by FERROCACHED_TEST_SERVER. Every server listens on a loopback port that the system chose,
writes its words to a file that is shown when it fails, and must end with status 0 when it is told to stop.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from pymemcache.client.base import Client

HOST = "127.0.0.1"
START_SECONDS_MAX = 10
STOP_SECONDS_MAX = 10


class Server:
    """One running server."""

    def __init__(self, binary, options, port, directory):
        self.host = HOST
        self.options = options
        # Debian's memcached may stand in for the server while tests are written. Its clock ticks once a
        # second, so what should happen in a second may happen at once; ferrocached keeps every item for the
        # whole of its time.
        self.has_a_fine_clock = Path(binary).name != "memcached"
        self._words = directory / "words"
        port_file = self._port_file = directory / "port"
        # As root a server insists on being told whom to become; anybody else's -u is ignored.
        command = [binary, "-u", "root", "-l", HOST, "-p", str(port), *options]
        with self._words.open("wb") as words:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                env={**os.environ, "MEMCACHED_PORT_FILENAME": str(port_file)},
            )
        self.pid = self.process.pid
        self._is_killed = False
        try:
            self.port = self._port_written_to(port_file)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    @property
    def address(self):
        return (self.host, self.port)

    @property
    def ports(self):
        """The TCP ports of all listeners: the first one's, then those of `-l` among the options."""
        lines = self._port_file.read_text().splitlines()
        return [int(line.removeprefix("TCP INET: ")) for line in lines if line.startswith("TCP INET: ")]

    @property
    def name(self):
        return f"{self.host}:{self.port}"

    @property
    def is_running(self):
        return self.process.poll() is None

    @property
    def resident_bytes(self):
        """What the process holds in memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"process {self.pid} has no VmRSS: it has ended")

    @property
    def words(self):
        """What the server has written to standard output and standard error."""
        return self._words.read_text(errors="replace")

    def kill(self):
        """As kill -9 or the kernel's out-of-memory killer would: no farewell to anybody."""
        self._is_killed = True
        self.process.kill()
        self.process.wait()

    def ask_to_stop(self):
        if self.is_running:
            self.process.send_signal(signal.SIGTERM)

    def check_that_it_stopped(self):
        """Waits for the end, and fails if it is a bad one."""
        if self._is_killed:
            return
        try:
            status = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(
                f"the server did not end within {STOP_SECONDS_MAX} s of SIGTERM; it said:\n{self.words}"
            )
        if status != 0:
            pytest.fail(f"the server ended with status {status}; it said:\n{self.words}")

    def _port_written_to(self, port_file):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if not self.is_running:
                pytest.fail(
                    f"the server ended at once with status {self.process.returncode}; it said:\n{self.words}"
                )
            # The file may be caught half written: only a whole line counts.
            text = port_file.read_text() if port_file.exists() else ""
            for line in text.splitlines(keepends=True):
                if line.startswith("TCP INET: ") and line.endswith("\n"):
                    return int(line.removeprefix("TCP INET: "))
            time.sleep(0.01)
        pytest.fail(
            f"no port in MEMCACHED_PORT_FILENAME after {START_SECONDS_MAX} s; the server said:\n{self.words}"
        )


@pytest.fixture
def start_server(tmp_path_factory):
    """Starts servers: `start_server("-m", "128", "-I", "2m")`, `start_server(port=one_that_was_free)`."""
    binary = os.environ.get("FERROCACHED_TEST_SERVER")
    if not binary:
        pytest.fail(
            "FERROCACHED_TEST_SERVER must name the server binary; `cargo test --test clients` sets it"
        )
    servers = []

    def start(*options, port=-1):
        server = Server(binary, options, port, tmp_path_factory.mktemp("server"))
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.ask_to_stop()
    failures = []
    for server in servers:
        try:
            server.check_that_it_stopped()
        except pytest.fail.Exception as failure:
            failures.append(str(failure))
    if failures:
        pytest.fail("\n".join(failures))


@pytest.fixture
def server(start_server):
    """A server with the default options."""
    return start_server()


@pytest.fixture
def start_with_sasl(start_server, tmp_path):
    """Starts a server that asks for SASL, with these lines as its file of users."""

    def start(*lines):
        users = tmp_path / "sasl-users"
        users.write_text("".join(f"{line}\n" for line in lines))
        users.chmod(0o600)
        return start_server("-S", "-Y", str(users))

    return start


@pytest.fixture
def guarded(start_with_sasl):
    """A server that asks for SASL, and that ann may use."""
    return start_with_sasl("ann:sesame")


@pytest.fixture
def connect():
    """Opens pymemcache clients that wait for each reply, and closes them at the end."""
    clients = []

    def open_client(server, **options):
        options = {"default_noreply": False, "connect_timeout": 5, "timeout": 10, **options}
        clients.append(Client(server.address, **options))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture
def wait_until():
    """Polls: `wait_until(lambda: client.get("key") is None, seconds_max=4)` returns the seconds that took."""

    def wait(is_so, seconds_max, what="what was waited for"):
        start = time.monotonic()
        while True:
            if is_so():
                return time.monotonic() - start
            if time.monotonic() - start > seconds_max:
                pytest.fail(f"{what}: did not come about within {seconds_max} s")
            time.sleep(0.02)

    return wait


@pytest.fixture
def program():
    """Finds a program of the system, or fails with how to install it."""

    def find(name, package):
        # Debian keeps daemons in /usr/sbin, which an ordinary user's PATH leaves out.
        path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
        if path is None:
            pytest.fail(f"{name} is not on the PATH; install Debian's package {package}")
        return path

    return find


@pytest.fixture
def version_1_certificate(tmp_path):
    """A directory with ca.pem, and server.pem and server.key of X.509 version 1, which has no extensions."""

    def openssl(*words):
        done = subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-subj", "/CN=authority", "-days", "2", "-out", "ca.pem")
    openssl("req", *key, "-keyout", "server.key", "-subj", "/CN=localhost", "-out", "server.csr")
    signed = ["-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-out", "server.pem"]
    openssl("x509", "-req", *signed, "-CAcreateserial")
    if "Version: 1 (" not in openssl("x509", "-in", "server.pem", "-noout", "-text"):
        # Newer ones make version 3 unless they are told.
        openssl("req", "-x509v1", *signed)
    assert "Version: 1 (" in openssl("x509", "-in", "server.pem", "-noout", "-text")
    return tmp_path
