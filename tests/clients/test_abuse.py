"""What no client should do: each that does it gets an error or loses its connection, and nobody else notices.

While the abuse goes on, a bystander uses the server over its own connection and checks every answer; the
memory of the process is watched, and the process must outlive it all. Randomness has a seed, so that a failure
can be repeated.
"""

import contextlib
import random
import select
import socket
import struct
import threading
import time

import pytest
from pymemcache.client.base import Client

MEGABYTE = 1024 * 1024
SEED = 20_240_229
ERRORS = (b"ERROR", b"CLIENT_ERROR ", b"SERVER_ERROR ")
ANSWER_SECONDS_MAX = 15


class Bystander:
    """Reads and writes all the while, and remembers the longest it had to wait."""

    def __init__(self, server):
        self.answers = 0
        self.longest_seconds = 0.0
        self._failure = None
        self._is_over = threading.Event()
        self._client = Client(
            server.address, default_noreply=False, connect_timeout=5, timeout=ANSWER_SECONDS_MAX
        )
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        self._client.set("bystander", b"0")
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()
        self._client.close()
        if self._failure is not None:
            raise AssertionError("a well-behaved client was disturbed") from self._failure
        assert self.answers > 0

    def _work(self):
        try:
            # At least once, however brief the abuse is.
            while not (self._is_over.is_set() and self.answers):
                start = time.monotonic()
                value = b"%d" % self.answers
                assert self._client.set("bystander", value) is True
                assert self._client.get("bystander") == value
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - start)
                self.answers += 1
                time.sleep(0.002)
        except Exception as failure:
            self._failure = failure


@contextlib.contextmanager
def unnoticed(server, growth_bytes_max):
    """Holds while others are served, and the process neither grows by more than this nor ends."""
    with Bystander(server) as bystander:
        before = server.resident_bytes
        largest = before

        def look():
            nonlocal largest
            assert server.is_running, server.words
            largest = max(largest, server.resident_bytes)
            return largest - before

        yield look
        look()
    assert largest - before <= growth_bytes_max, f"grew from {before} to {largest} bytes"
    assert bystander.longest_seconds < 5


@contextlib.contextmanager
def connection(server):
    with socket.create_connection(server.address, timeout=ANSWER_SECONDS_MAX) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield opened


def send_all(opened, data):
    """Sends; a server that has hung up already is allowed to have done so."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        opened.sendall(data)


def all_answers(opened):
    """Says that nothing more will come, and gives all that is answered until the server hangs up."""
    answers = b""
    with contextlib.suppress(ConnectionResetError, OSError):
        opened.shutdown(socket.SHUT_WR)
    try:
        while more := opened.recv(65_536):
            answers += more
    except ConnectionResetError:
        pass
    except TimeoutError:
        pytest.fail(f"neither closed nor answered within {ANSWER_SECONDS_MAX} s; so far: {answers[:200]!r}")
    return answers


def line(opened):
    """The next line of the answer; empty if the server hangs up."""
    text = b""
    while not text.endswith(b"\r\n"):
        try:
            more = opened.recv(1)
        except ConnectionResetError:
            return b""
        if not more:
            return b""
        text += more
    return text


def drop(opened):
    """Cuts the connection with a reset, as a crashed machine's peer would see it."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    opened.close()


def test_random_bytes_get_errors_or_a_close(server):
    chance = random.Random(SEED)
    with unnoticed(server, growth_bytes_max=16 * MEGABYTE) as look:
        for _ in range(150):
            # 0x80 would open a conversation in the binary protocol: that is the next test.
            noise = bytes([chance.choice([*range(0x80), *range(0x81, 0x100)])]) + chance.randbytes(4_000)
            with connection(server) as opened:
                send_all(opened, noise)
                for answer in all_answers(opened).splitlines():
                    assert answer.startswith(ERRORS), (SEED, answer)
        look()


def test_random_bytes_after_the_binary_magic_do_no_harm(server):
    chance = random.Random(SEED + 1)
    with unnoticed(server, growth_bytes_max=16 * MEGABYTE) as look:
        for number in range(150):
            header = struct.pack(
                ">BBHBBHIIQ",
                0x80,
                chance.randrange(256),
                chance.choice([0, 1, 250, 251, 65_535]),
                chance.choice([0, 4, 8, 20, 255]),
                0,
                0,
                chance.choice([0, 1, 24, 1_000, 2**31, 2**32 - 1]),
                number,
                chance.getrandbits(64),
            )
            with connection(server) as opened:
                send_all(opened, header + chance.randbytes(chance.randrange(2_000)))
                all_answers(opened)
        look()


def test_random_words_of_the_protocol_do_no_harm(server):
    chance = random.Random(SEED + 2)
    words = """
        get gets gat gats set add replace append prepend cas incr decr touch delete mg ms md ma mn me
        stats settings items slabs sizes version verbosity noreply key other T0 v t k q S5 MA N30
        0 1 -1 5 250 4294967296 18446744073709551615 99999999999999999999
    """.split()
    endings = [b"\r\n", b"\n", b" \r\n", b"\r\n\r\n", b"\r\nhello\r\n", b"\0\r\n"]
    with unnoticed(server, growth_bytes_max=16 * MEGABYTE) as look:
        for _ in range(100):
            lines = [
                " ".join(chance.choices(words, k=chance.randrange(1, 9))).encode() + chance.choice(endings)
                for _ in range(60)
            ]
            with connection(server) as opened:
                send_all(opened, b"".join(lines))
                all_answers(opened)
        look()


@pytest.mark.parametrize(
    "half",
    [
        b"g",
        b"get",
        b"get key",
        b"set key 0 0 10\r",
        b"set key 0 0 10\r\n",
        b"set key 0 0 10\r\nhalf",
        b"set key 0 0 4\r\nhalf\r",
    ],
    ids=repr,
)
def test_half_a_command_changes_nothing(server, connect, half):
    client = connect(server)
    client.set("key", b"whole")
    with unnoticed(server, growth_bytes_max=8 * MEGABYTE):
        waiting = []
        for _ in range(20):
            with connection(server) as opened:
                opened.sendall(half)
                assert all_answers(opened) == b""
            waiting.append(socket.create_connection(server.address, timeout=ANSWER_SECONDS_MAX))
            waiting[-1].sendall(half)
        assert client.get("key") == b"whole"
        for opened in waiting:
            drop(opened)
    assert client.get("key") == b"whole"


@pytest.mark.parametrize(
    "length", ["-1", "2147483647", "2147483648", "4294967295", "18446744073709551616", "9" * 200, "5x"]
)
def test_an_impossible_length_is_an_error_and_the_connection_goes_on(server, length):
    with unnoticed(server, growth_bytes_max=8 * MEGABYTE), connection(server) as opened:
        opened.sendall(f"set key 0 0 {length}\r\n".encode())
        assert line(opened) == b"CLIENT_ERROR bad command line format\r\n"
        opened.sendall(b"get key\r\n")
        assert line(opened) == b"END\r\n"


def test_two_gigabytes_announced_are_not_set_aside(server):
    announced = 2**31 - 1 - 2
    with unnoticed(server, growth_bytes_max=16 * MEGABYTE) as look:
        many = [socket.create_connection(server.address, timeout=ANSWER_SECONDS_MAX) for _ in range(20)]
        for opened in many:
            opened.sendall(b"set huge 0 0 %d\r\n" % announced)
        for opened in many[:5]:
            send_all(opened, bytes(4 * MEGABYTE))
            look()
        for opened in many:
            drop(opened)


def test_a_value_far_too_large_is_swallowed_and_refused(server):
    length = 64 * MEGABYTE
    with unnoticed(server, growth_bytes_max=16 * MEGABYTE) as look, connection(server) as opened:
        opened.sendall(b"set huge 0 0 %d\r\n" % length)
        for _ in range(length // MEGABYTE):
            opened.sendall(bytes(MEGABYTE))
            look()
        opened.sendall(b"\r\n")
        assert line(opened) == b"SERVER_ERROR object too large for cache\r\n"
        opened.sendall(b"get huge\r\n")
        assert line(opened) == b"END\r\n"


def test_two_hundred_thousand_writes_of_one_byte_are_one_value(server, connect):
    value = random.Random(SEED + 3).randbytes(200_000)
    with unnoticed(server, growth_bytes_max=16 * MEGABYTE), connection(server) as opened:
        request = b"set drip 0 0 %d\r\n" % len(value) + value + b"\r\n"
        for position in range(len(request)):
            opened.send(request[position : position + 1])
        assert line(opened) == b"STORED\r\n"
        assert connect(server).get("drip") == value
        # Commands in crumbs, too.
        for byte in b"get nothing\r\n" * 300:
            opened.send(bytes([byte]))
        assert [line(opened) for _ in range(300)] == [b"END\r\n"] * 300


def test_connections_dropped_in_the_middle_of_a_value_are_cleared_away(start_server, connect, wait_until):
    server = start_server("-m", "16")
    client = connect(server)
    client.set("key", b"whole")
    connections = client.stats()[b"curr_connections"]
    # The limit of the cache is 16 MB; half-received values may count against it, not on top of it.
    with unnoticed(server, growth_bytes_max=40 * MEGABYTE) as look:
        for _ in range(15):
            dropped = [
                socket.create_connection(server.address, timeout=ANSWER_SECONDS_MAX) for _ in range(10)
            ]
            for number, opened in enumerate(dropped):
                send_all(opened, b"set key%d 0 0 1000000\r\n" % number + bytes(200_000))
            look()
            for opened in dropped:
                drop(opened)
    wait_until(
        lambda: client.stats()[b"curr_connections"] <= connections,
        seconds_max=10,
        what="the dropped connections are gone from the statistics",
    )
    assert client.get_many(["key", *(f"key{number}" for number in range(10))]).keys() <= {"key"}
    # What the half values held is free again: the cache can be filled with whole ones.
    for number in range(100):
        assert client.set(f"large{number}", bytes(500_000)) is True
    assert client.get("large99") == bytes(500_000)


@pytest.mark.parametrize(
    "request_line",
    [b"get large\r\n" * 500, b"get " + b"large " * 500 + b"\r\n"],
    ids=["pipelined", "many_keys"],
)
def test_clients_that_never_read_are_owed_little(server, connect, request_line):
    connect(server).set("large", bytes(100_000))
    with unnoticed(server, growth_bytes_max=48 * MEGABYTE) as look:
        deaf = []
        for _ in range(40):
            opened = socket.create_connection(server.address, timeout=ANSWER_SECONDS_MAX)
            opened.setblocking(False)
            deaf.append(opened)
        # 40 clients ask for 50 MB in each of these rounds, as far as their requests are taken at all.
        for _ in range(10):
            _, ready, _ = select.select([], deaf, [], 1)
            for opened in ready:
                # Half a request may be sent when the buffers fill: such a client is merely ruder.
                with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                    opened.send(request_line)
            look()
            time.sleep(0.05)
        for opened in deaf:
            drop(opened)
    assert connect(server).get("large") == bytes(100_000)


def test_a_line_that_never_ends_is_cut_short(server):
    with unnoticed(server, growth_bytes_max=16 * MEGABYTE) as look:
        for start in [b"", b"set ", b"delete ", b"incr key ", b"\r", b"\0"]:
            with connection(server) as opened:
                send_all(opened, start + b"x" * 4 * MEGABYTE)
                for answer in all_answers(opened).splitlines():
                    assert answer.startswith(ERRORS), answer
        look()


def test_a_get_of_twenty_thousand_keys_is_answered(server, connect):
    client = connect(server)
    client.set("key17777", b"here")
    with unnoticed(server, growth_bytes_max=48 * MEGABYTE):
        assert client.get_many([f"key{number}" for number in range(20_000)]) == {"key17777": b"here"}


def test_connections_past_the_limit_are_turned_away_and_room_is_found_again(
    start_server, connect, wait_until
):
    server = start_server("-c", "64")
    client = connect(server)
    client.set("key", b"value")
    with unnoticed(server, growth_bytes_max=16 * MEGABYTE):
        crowd = [socket.create_connection(server.address, timeout=ANSWER_SECONDS_MAX) for _ in range(100)]
        served, refused = 0, 0
        for opened in crowd:
            send_all(opened, b"get key\r\n")
        for opened in crowd:
            answer = line(opened)
            if answer == b"VALUE key 0 5\r\n":
                served += 1
            else:
                assert answer == b"" or answer.startswith(ERRORS), answer
                refused += 1
        assert served + refused == 100
        assert served > 32 and refused >= 36
        assert client.get("key") == b"value"
        for opened in crowd:
            opened.close()

        def is_served():
            with connection(server) as opened:
                send_all(opened, b"get key\r\n")
                return line(opened) == b"VALUE key 0 5\r\n"

        wait_until(is_served, seconds_max=10, what="a new client is served again")
