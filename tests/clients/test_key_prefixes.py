"""What the server does by key prefix: flush_prefix while others read and write, and the statistics that name keys.

The claim about flush_prefix: from its OK on nobody sees what was stored before it, and what is stored after its OK
stays. Each value is unique, and the test remembers which flushes had begun when its store was acknowledged: a flush
with a higher number must have taken it along.
"""

import random
import threading
import time

import memcache
from pymemcache.client.base import Client

SECONDS = 4
THREADS = 4
KEYS = 20


def flush_prefix(client, prefix):
    return client.raw_command(b"flush_prefix " + prefix)


class Flushes:
    """Flushes one prefix again and again, and tells how many have begun and how many are done."""

    def __init__(self, server, prefix):
        self.begun = 0
        self.done = 0
        self.failure = None
        self.is_over = threading.Event()
        self._prefix = prefix
        self._client = Client(server.address, timeout=30)
        self._thread = threading.Thread(target=self.run, args=(self._work,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self._thread.join()
        self._client.close()
        if self.failure is not None:
            raise AssertionError("the claim does not hold") from self.failure

    def run(self, work):
        """Runs `work` until it is over, and keeps what goes wrong."""
        try:
            while not self.is_over.is_set():
                work()
        except BaseException as failure:
            self.failure = failure
            self.is_over.set()

    def _work(self):
        self.begun += 1
        assert flush_prefix(self._client, self._prefix) == b"OK"
        self.done = self.begun
        time.sleep(0.005)


def fill(client, prefix, count):
    client.set_many({f"{prefix}:filler:{number}": b"x" * 50 for number in range(count)}, noreply=True)
    assert client.get(f"{prefix}:filler:{count - 1}") is not None


def test_nothing_old_is_seen_and_nothing_new_is_lost(server, connect):
    fill(connect(server), "space", 20_000)
    stored = {}  # value: how many flushes had begun when it was known to be stored
    seen = [0, 0, 0]  # values read, read-backs that had to succeed, counters that had to be gone

    with Flushes(server, b"space:") as flushes:

        def write_and_read_back(number, client, count):
            count[0] += 1
            key = f"space:{number}:{count[0] % KEYS}"
            value = f"{number}-{count[0]}-{time.monotonic_ns()}".encode()
            done = flushes.done
            assert client.set(key, value) is True
            stored[value] = flushes.begun
            found = client.get(key)
            if flushes.begun == done:
                assert found == value, "stored after a flush, and no other has begun"
                seen[1] += 1

        def read(number, client, count):
            count[0] += 1
            key = f"space:{number % THREADS}:{count[0] % KEYS}"
            done = flushes.done
            value = client.get(key)
            if value is not None and value in stored:
                assert stored[value] >= done, "stored before a flush, seen after its OK"
                seen[0] += 1

        def count_up(number, client, last):
            """A counter of this thread alone: either one more than before, or gone."""
            key = f"space:counter:{number}"
            number_before, begun_at_ack, was_quiet = last
            time.sleep(random.random() * 0.02)  # now and then a whole flush fits in between
            done = flushes.done
            now = client.incr(key, 1)
            if number_before is not None:
                if done > begun_at_ack:
                    assert now is None, "counted on from before a flush"
                    seen[2] += 1
                elif was_quiet and flushes.begun == begun_at_ack:
                    assert now == number_before + 1
                assert now in (None, number_before + 1)
            if now is None:
                assert client.add(key, b"7") is True
                now = 7
            # Quiet: no flush was under way while this was answered.
            last[:] = [now, flushes.begun, flushes.begun == done]

        def working(work, number):
            client = Client(server.address, default_noreply=False, timeout=30)
            state = [None, 0, False] if work is count_up else [0]
            flushes.run(lambda: work(number, client, state))
            client.close()

        workers = [
            threading.Thread(target=working, args=(work, number))
            for work in (write_and_read_back, read, count_up)
            for number in range(THREADS)
        ]
        for worker in workers:
            worker.start()
        flushes.is_over.wait(SECONDS)
        flushes.is_over.set()
        for worker in workers:
            worker.join()
    assert min(seen) > 0, f"{seen} of what was claimed was tried"
    assert flushes.done > 10


def test_flushes_leave_other_prefixes_alone_and_give_memory_back(server, connect, wait_until):
    client = connect(server)
    fill(client, "mine", 1000)
    fill(client, "theirs", 1000)
    before = int(client.stats()[b"bytes"])
    for number in range(20):
        # A flush of what does not exist, and one of a part after the other.
        assert flush_prefix(client, b"nobody%d:" % number) == b"OK"
        assert flush_prefix(client, b"theirs:filler:%d" % (number % 10)) == b"OK"
    keys = [f"mine:filler:{number}" for number in range(1000)]
    assert len(client.get_many(keys)) == 1000
    assert client.get_many([key.replace("mine", "theirs") for key in keys]) == {}
    wait_until(lambda: client.stats("prefixes")[b"flush_prefix_waiting"] == 0, seconds_max=20)
    stats = client.stats()
    assert stats[b"curr_items"] == 1000
    assert int(stats[b"bytes"]) < before * 0.6
    assert client.stats("prefixes")[b"cmd_flush_prefix"] == 40


def test_an_old_server_can_be_told_by_its_error(server, connect):
    """What a client does that wants to work with memcached too."""

    def forget(client, prefix):
        return client.raw_command(b"flush_prefix " + prefix) != b"ERROR" or client.flush_all()

    client = connect(server)
    client.set("a:1", b"1")
    client.set("b:1", b"1")
    assert forget(client, b"a:")
    assert client.get_many(["a:1", "b:1"]) == {"b:1": b"1"}


def test_clients_can_read_the_statistics_of_keys(start_server, connect):
    server = start_server("-D", ":")
    client = connect(server)
    client.set("user:7", b"value")
    for _ in range(60):
        client.get_many(["user:7"] * 80 + [f"miss:{number}" for number in range(20)])

    hot = client.stats("hotkeys")
    assert float(hot[b"user%3A7:per_second"]) > 0
    assert hot[b"user%3A7:hit_ratio"] == b"1.000"
    assert 10 < hot[b"samples"] < 40, "one in 256 of 6,000"
    # The first key of a reply is the hottest.
    assert next(name for name in hot if b":" in name) == b"user%3A7:per_second"

    ((_, prefixes),) = memcache.Client([server.name]).get_stats("prefixes")
    assert prefixes["user:hit_ratio"] == "1.000"
    assert prefixes["miss:hit_ratio"] == "0.000"
    assert float(prefixes["user:per_second"]) > float(prefixes["miss:per_second"])

    dump = client.raw_command(b"stats detail dump", b"END\r\n").split(b"\r\n")
    assert b"PREFIX user get 4800 hit 4800 set 1 del 0" in dump
    assert b"PREFIX miss get 1200 hit 0 set 0 del 0" in dump
