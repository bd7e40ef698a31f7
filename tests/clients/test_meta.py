"""The meta commands as applications use them: opaques, quiet pipelines, binary keys, and one client that recaches
for all. pymemcache has no words of its own for them, so a small client speaks them over a socket."""

import base64
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

ANSWER_SECONDS_MAX = 10


class MetaClient:
    """Sends meta commands, and gives each answer as its status, its flags and its value if it has one."""

    def __init__(self, server):
        self._socket = socket.create_connection(server.address, timeout=ANSWER_SECONDS_MAX)
        self._answers = self._socket.makefile("rb")

    def send(self, *lines):
        self._socket.sendall(b"".join(line + b"\r\n" for line in lines))

    def answer(self):
        status, *words = self._line().split(b" ")
        value = None
        if status == b"VA":
            value = self._answers.read(int(words.pop(0)))
            assert self._line() == b""
        return status.decode(), [word.decode() for word in words], value

    def ask(self, *lines):
        self.send(*lines)
        return self.answer()

    def answers_up_to_mn(self):
        """What a quiet pipeline has to say before its end."""
        answers = []
        while (answer := self.answer())[0] != "MN":
            answers.append(answer)
        return answers

    def close(self):
        self._answers.close()
        self._socket.close()

    def _line(self):
        line = self._answers.readline()
        assert line.endswith(b"\r\n"), line
        return line[:-2]


@pytest.fixture
def meta(server):
    clients = []

    def connect():
        clients.append(MetaClient(server))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def test_an_item_and_what_is_known_of_it(meta):
    client = meta()
    assert client.ask(b"ms page 5 T60 F7", b"hello") == ("HD", [], None)
    status, flags, value = client.ask(b"mg page v t f s h k Oq1")
    assert (status, value) == ("VA", b"hello")
    assert flags in (["t60", "f7", "s5", "h0", "kpage", "Oq1"], ["t59", "f7", "s5", "h0", "kpage", "Oq1"])
    assert client.ask(b"md page") == ("HD", [], None)
    assert client.ask(b"mg page v Oq2") == ("EN", ["Oq2"], None)


def test_a_quiet_pipeline_answers_with_what_there_is(meta):
    client = meta()
    client.send(*(line for key in range(0, 300, 3) for line in (b"ms key%d 4 q" % key, b"%04d" % key)), b"mn")
    assert client.answers_up_to_mn() == []
    client.send(*(b"mg key%d v q O%d" % (key, key) for key in range(300)), b"mn")
    wanted = [("VA", [f"O{key}"], b"%04d" % key) for key in range(0, 300, 3)]
    assert client.answers_up_to_mn() == wanted


def test_any_bytes_are_a_key(meta):
    client = meta()
    for key in (b"two words", b"line\r\nline", bytes(range(186)), "schlüssel".encode(), os.urandom(32)):
        text = base64.b64encode(key)
        assert client.ask(b"ms %s 3 b" % text, b"key") == ("HD", [], None)
        assert client.ask(b"mg %s b k v" % text) == ("VA", [f"k{text.decode()}", "b"], b"key")
        assert client.ask(b"md %s b q" % text, b"mn")[0] == "MN"
        assert client.ask(b"mg %s b" % text)[0] == "EN"


def test_one_of_many_recaches_what_was_invalidated(meta):
    writer = meta()
    assert writer.ask(b"ms report 3 T300", b"old")[0] == "HD"
    assert writer.ask(b"md report I T30")[0] == "HD"

    def read(client):
        status, flags, value = client.ask(b"mg report v")
        assert (status, value) == ("VA", b"old"), "everybody is served meanwhile"
        assert "X" in flags
        return "W" in flags

    clients = [meta() for _ in range(16)]
    with ThreadPoolExecutor(len(clients)) as pool:
        assert sum(pool.map(read, clients)) == 1
    assert writer.ask(b"ms report 3 T300", b"new")[0] == "HD"
    assert clients[0].ask(b"mg report v") == ("VA", [], b"new")


def test_one_of_many_fills_what_is_missing(meta):
    clients = [meta() for _ in range(16)]
    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(lambda client: client.ask(b"mg page N30 v"), clients))
    assert sorted(flags for _, flags, _ in answers) == [["W"], *[["Z"]] * 15]
    assert clients[0].ask(b"ms page 4", b"full")[0] == "HD"
    assert clients[1].ask(b"mg page v") == ("VA", [], b"full")


def test_versions_guard_a_shared_item(meta):
    one, other = meta(), meta()
    _, [version], _ = one.ask(b"ms cart 5 c", b"apple")
    assert other.ask(b"ms cart 6 %s" % version.upper().encode(), b"banana")[0] == "HD"
    assert one.ask(b"ms cart 6 %s" % version.upper().encode(), b"cherry")[0] == "EX"
    assert one.ask(b"mg cart v") == ("VA", [], b"banana")


def test_counters_begin_by_themselves(meta):
    clients = [meta() for _ in range(8)]

    def count(client):
        for _ in range(50):
            client.ask(b"ma visits N0 J1 v")

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(count, clients))
    assert clients[0].ask(b"ma visits v D0") == ("VA", [], b"400")
    assert clients[0].ask(b"ma visits v MD D1000") == ("VA", [], b"0")


def test_both_dialects_see_the_same_items(meta, server, connect):
    client, classic = meta(), connect(server)
    classic.set("key", b"value", flags=3)
    assert client.ask(b"mg key v f") == ("VA", ["f3"], b"value")
    assert client.ask(b"ms key 1", b"9")[0] == "HD"
    assert classic.incr("key", 1) == 10
    assert client.ask(b"ma key v") == ("VA", [], b"11")
    assert classic.get("key") == b"11"
    assert classic.raw_command("mg key v", "\r\n11\r\n") == b"VA 2"
