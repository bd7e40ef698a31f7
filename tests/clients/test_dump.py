"""Dumps of a server that is being written to."""

import random
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

STAYING = 200_000
COMING_AND_GOING = 50_000
DUMP_SECONDS_MAX = 60
METADUMP_LINE = re.compile(
    rb"key=((?:stays|goes)%3A\d{6}) exp=(?:-1|\d+) la=\d+ cas=\d+ fetch=(?:yes|no) cls=1 size=\d+ flags=\d+ "
)


def ask(server, request):
    connection = socket.create_connection(server.address, timeout=DUMP_SECONDS_MAX)
    connection.sendall(request)
    return connection


def lines_up_to(connection, end):
    """All lines of a dump between the first and the last."""
    with connection, connection.makefile("rb") as answer:
        assert answer.readline() == b"OK\r\n"
        lines = []
        for line in answer:
            if line == end:
                return lines
            lines.append(line)
    pytest.fail("the connection was closed within a dump")


def a_key(chance, kind, below):
    return f"{kind}:{chance.randrange(below):06}"


def metadump(server, *words):
    return metadump_keys(ask(server, b" ".join([b"lru_crawler metadump all", *words]) + b"\r\n"))


def metadump_keys(connection):
    lines = lines_up_to(connection, b"END\r\n")
    found = [METADUMP_LINE.fullmatch(line.removesuffix(b"\n")) for line in lines]
    assert all(found), lines[found.index(None)]
    return [match[1].replace(b"%3A", b":") for match in found]


def mgdump(server):
    lines = lines_up_to(ask(server, b"lru_crawler mgdump all\r\n"), b"EN\r\n")
    keys = [re.fullmatch(rb"mg ((?:stays|goes):\d{6})\r\n", line) for line in lines]
    assert all(keys), lines[keys.index(None)]
    return [match[1] for match in keys]


@pytest.fixture
def filled(start_server, connect):
    server = start_server("-m", "256")
    client = connect(server)
    names = [f"stays:{number:06}" for number in range(STAYING)]
    client.set_many(dict.fromkeys(names, b"at first"), noreply=True)
    assert client.get(names[-1]) == b"at first"
    return server


@pytest.fixture
def writers(filled, connect):
    """Clients that store, overwrite with other lengths, and delete, until the test is over."""
    is_over = threading.Event()

    def write(seed):
        chance, client = random.Random(seed), connect(filled)
        rounds = 0
        while not is_over.is_set():
            comes = {a_key(chance, "goes", COMING_AND_GOING): b"v" * chance.randrange(500) for _ in range(100)}
            stays = {a_key(chance, "stays", STAYING): b"v" * chance.randrange(200) for _ in range(100)}
            goes = [a_key(chance, "goes", COMING_AND_GOING) for _ in range(50)]
            client.set_many(comes, noreply=True)
            client.set_many(stays, noreply=True)
            client.delete_many(goes, noreply=True)
            rounds += 1
        assert client.version()
        return rounds

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(write, seed) for seed in range(3)]
        yield running
        is_over.set()
        assert all(writer.result() > 0 for writer in running)


def check(keys):
    """What stays is listed, and nothing twice."""
    listed = set(keys)
    assert len(listed) == len(keys)
    assert sum(key.startswith(b"stays:") for key in listed) == STAYING


def test_dumps_beside_writers_are_whole_and_complete(filled, writers):
    with ThreadPoolExecutor(4) as pool:
        dumps = [pool.submit(dump, filled) for dump in (metadump, mgdump, metadump, mgdump)]
        for dump in dumps:
            check(dump.result())


def test_a_dump_with_a_prefix_is_a_part(filled, writers):
    keys = metadump(filled, b"stays:0001")
    assert sorted(keys) == [b"stays:%06d" % number for number in range(100, 200)]


def test_a_client_that_does_not_read_its_dump_costs_little_and_holds_up_nobody(filled, connect):
    before = filled.resident_bytes
    silent = [ask(filled, b"lru_crawler metadump all\r\n") for _ in range(20)]
    time.sleep(0.5)
    client = connect(filled, timeout=5)
    assert client.get("stays:000000") == b"at first"
    # Not the 20 MB of each dump, but what its last slice said.
    assert filled.resident_bytes - before < 20 * (1 << 20)
    assert client.stats()[b"lru_crawler_running"] == 20
    check(metadump(filled))
    # Those who read after all get all of it.
    connection = silent.pop()
    check(metadump_keys(connection))
    for connection in silent:
        connection.close()
    deadline = time.monotonic() + 10
    while client.stats()[b"lru_crawler_running"] > 0:
        assert time.monotonic() < deadline, "dumps of clients that have left go on"
        time.sleep(0.02)
