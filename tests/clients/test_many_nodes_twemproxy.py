"""Twemproxy in front of two servers, with the configuration the manual shows."""

import socket
import subprocess
import time
from pathlib import Path

import pytest
from pymemcache.client.base import Client

CONFIGURATION = Path(__file__).with_name("nutcracker.yml")
START_ATTEMPTS_MAX = 5
KEYS = [f"key{number}" for number in range(200)]


class Proxy:
    """One running twemproxy."""

    def __init__(self, address, process):
        self.address = address
        self.process = process


def free_ports(count):
    """Ports that were free a moment ago: twemproxy cannot be asked to choose its own."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def nodes(start_server):
    return [start_server(), start_server()]


@pytest.fixture
def proxy(nodes, program, tmp_path):
    nutcracker = program("nutcracker", "nutcracker")
    for _ in range(START_ATTEMPTS_MAX):
        port, statistics_port = free_ports(2)
        text = CONFIGURATION.read_text()
        for known, own in [(22121, port), (11211, nodes[0].port), (11212, nodes[1].port)]:
            assert text.count(f"127.0.0.1:{known}") == 1, f"{CONFIGURATION.name} must name port {known} once"
            text = text.replace(f"127.0.0.1:{known}", f"127.0.0.1:{own}")
        configuration = tmp_path / "nutcracker.yml"
        configuration.write_text(text)
        files = ["-c", configuration, "-o", tmp_path / "words", "-p", tmp_path / "pid"]
        process = subprocess.Popen([nutcracker, *files, "-a", "127.0.0.1", "-s", str(statistics_port)])
        deadline = time.monotonic() + 5
        while process.poll() is None and not is_listening(port) and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.poll() is None and is_listening(port):
            break
        # Somebody else may have taken a port in between: try others.
        process.kill()
        process.wait()
    else:
        pytest.fail(f"twemproxy did not start; it said:\n{(tmp_path / 'words').read_text(errors='replace')}")
    yield Proxy(("127.0.0.1", port), process)
    assert process.poll() is None, f"twemproxy ended:\n{(tmp_path / 'words').read_text(errors='replace')}"
    process.terminate()
    process.wait(10)


@pytest.fixture
def open_client(proxy):
    clients = []

    def open_client(**options):
        clients.append(Client(proxy.address, **{"default_noreply": False, "timeout": 10, **options}))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


def test_keys_are_spread_over_both_servers(open_client, nodes, connect):
    client = open_client()
    for key in KEYS:
        assert client.set(key, key) is True
    counts = [connect(node).stats()[b"curr_items"] for node in nodes]
    assert sum(counts) == len(KEYS)
    assert min(counts) > len(KEYS) // 10
    # Each is where the proxy put it, and only there.
    for key in KEYS[:20]:
        assert sorted([connect(node).get(key) or b"" for node in nodes]) == [b"", key.encode()]


def test_many_keys_are_gathered_from_both(open_client):
    client = open_client()
    values = {key: b"value of " + key.encode() for key in KEYS}
    assert client.set_many(values) == []
    assert client.get_many([*KEYS, "nothing"]) == values
    assert {key: value for key, (value, _) in client.gets_many(KEYS).items()} == values
    for key in KEYS[:50]:
        assert client.delete(key) is True
        assert client.delete(key) is False
    assert client.get_many(KEYS) == {key: values[key] for key in KEYS[50:]}


def test_single_commands_go_through(open_client):
    client = open_client()
    assert client.get("key") is None
    assert client.add("key", b"1", expire=60) is True
    assert client.add("key", b"2") is False
    assert client.replace("key", b"9") is True
    assert client.incr("key", 1) == 10
    assert client.decr("key", 4) == 6
    assert client.append("key", b"0") is True
    assert client.prepend("key", b"1") is True
    assert client.touch("key", 60) is True
    value, version = client.gets("key")
    assert int(value.replace(b" ", b"")) == 160
    assert client.cas("key", b"changed", version) is True
    assert client.cas("key", b"again", version) is False
    assert client.get("key") == b"changed"


def test_large_and_binary_values_go_through(open_client):
    client = open_client()
    for value in [b"", b"\r\nEND\r\n", bytes(range(256)) * 1_000, bytes(900_000)]:
        assert client.set("key", value) is True
        assert client.get("key") == value


def test_nobody_need_wait_for_replies(open_client, wait_until):
    client = open_client(default_noreply=True)
    for key in KEYS:
        client.set(key, b"quiet")
    wait_until(lambda: len(client.get_many(KEYS)) == len(KEYS), seconds_max=5, what="the values arrive")
    for key in KEYS:
        client.delete(key)
    wait_until(lambda: client.get_many(KEYS) == {}, seconds_max=5, what="the values leave")


def test_items_expire_behind_the_proxy(open_client, wait_until):
    client = open_client()
    client.set("brief", b"x", expire=1)
    client.set("lasting", b"x", expire=100)
    wait_until(lambda: client.get("brief") is None, seconds_max=4, what="the item expires")
    assert client.get("lasting") == b"x"


def test_the_keys_of_a_dead_server_move_to_the_other(open_client, nodes, connect, wait_until):
    client = open_client(ignore_exc=True)
    for key in KEYS:
        assert client.set(key, key) is True
    kept = [key for key in KEYS if connect(nodes[1]).get(key)]
    nodes[0].kill()

    def is_stored(key):
        try:
            return client.set(key, key)
        except Exception:
            # Until the proxy has left the dead server out, it answers SERVER_ERROR for it.
            return False

    for key in KEYS:
        wait_until(lambda: is_stored(key), seconds_max=10, what=f"{key} is stored by the living server")
    assert connect(nodes[1]).stats()[b"curr_items"] == len(KEYS)
    assert client.get(kept[0]) == kept[0].encode()
