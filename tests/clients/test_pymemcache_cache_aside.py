"""Cache-aside with pymemcache: every command of the client, at and past its limits."""

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pymemcache.client.base import PooledClient
from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheIllegalInputError,
    MemcacheServerError,
    MemcacheUnknownError,
)
from pymemcache.serde import compressed_serde

LARGEST_COUNTER = 2**64 - 1
MONTH_SECONDS = 30 * 24 * 60 * 60
MEGABYTE = 1024 * 1024


class JsonSerde:
    """As in pymemcache's documentation: text stays text, all else becomes JSON."""

    def serialize(self, key, value):
        return (value, 1) if isinstance(value, str) else (json.dumps(value), 2)

    def deserialize(self, key, value, flags):
        if flags == 1:
            return value.decode()
        if flags == 2:
            return json.loads(value)
        raise AssertionError(f"flags {flags} were never stored")


@pytest.fixture
def client(server, connect):
    return connect(server)


def test_cache_aside_asks_the_source_once_per_lifetime(server, client, wait_until):
    asked = []

    def user(number):
        found = client.get(f"user:{number}")
        if found is None:
            asked.append(number)
            found = b"user %d" % number
            client.set(f"user:{number}", found, expire=1)
        return found

    assert [user(7) for _ in range(20)] == [b"user 7"] * 20
    assert asked == [7]
    stored_at = time.monotonic()
    wait_until(lambda: user(7) and len(asked) == 2, seconds_max=3, what="the user expires")
    if server.has_a_fine_clock:
        assert time.monotonic() - stored_at > 0.8


def test_a_second_is_nine_tenths_of_one_at_least_and_never_more(server, client, wait_until):
    before = time.monotonic()
    client.set("brief", b"here", expire=1)
    wait_until(lambda: client.get("brief") is None, seconds_max=3, what="the item expires")
    if server.has_a_fine_clock:
        assert time.monotonic() - before >= 0.9
        client.set("brief", b"here", expire=1)
        time.sleep(1)
        assert client.get("brief") is None


@pytest.mark.parametrize("serde", [JsonSerde(), compressed_serde], ids=["json", "compressed_pickle"])
def test_objects_come_back_as_they_were(server, connect, serde):
    client = connect(server, serde=serde)
    for value in ["text", {"list": [1, 2.5, None], "name": "Ünï"}, [], {}, True, list(range(5_000))]:
        client.set("object", value)
        assert client.get("object") == value


def test_a_change_made_meanwhile_is_noticed(server, connect):
    ann, bob = connect(server), connect(server)
    ann.set("page", b"draft")
    text, version = ann.gets("page")
    _, version_of_bob = bob.gets("page")
    assert version == version_of_bob
    assert bob.cas("page", b"of bob", version_of_bob) is True
    assert ann.cas("page", text + b" of ann", version) is False
    text, version = ann.gets("page")
    assert text == b"of bob"
    assert ann.cas("page", b"of both", version) is True
    assert bob.get("page") == b"of both"
    assert ann.cas("nothing", b"x", version) is None
    assert ann.gets("nothing") == (None, None)
    pages = ann.gets_many(["page", "nothing"])
    assert list(pages) == ["page"] and pages["page"][0] == b"of both"


def test_touch_leaves_the_version_alone(client):
    client.set("page", b"draft", expire=60)
    _, version = client.gets("page")
    assert client.touch("page", 90) is True
    assert client.gets("page") == (b"draft", version)


def test_a_counter_wraps_upwards_and_stops_downwards(client):
    client.set("counter", str(LARGEST_COUNTER - 1))
    assert client.incr("counter", 1) == LARGEST_COUNTER
    assert client.incr("counter", 1) == 0
    assert client.decr("counter", 1) == 0
    assert client.incr("counter", LARGEST_COUNTER) == LARGEST_COUNTER
    assert client.incr("counter", 10) == 9
    assert client.decr("counter", 100) == 0
    client.set("counter", "10")
    assert client.decr("counter", 1) == 9
    assert int(client.get("counter")) == 9, "a shorter number may be padded with spaces, as memcached does"


def test_what_is_no_number_is_not_counted(client):
    assert client.incr("counter", 1) is None
    assert client.decr("counter", 1) is None
    for word in ["forty", "", "-1", "12abc", str(2**64)]:
        client.set("word", word)
        with pytest.raises(MemcacheClientError, match="cannot increment or decrement non-numeric value"):
            client.incr("word", 1)
        assert client.get("word") == word.encode()
    client.set("counter", "1")
    for delta in [-1, 2**64]:
        with pytest.raises(MemcacheClientError, match="invalid numeric delta argument"):
            client.incr("counter", delta)
    assert client.get("counter") == b"1"


def test_thirty_days_are_the_longest_relative_time(client):
    client.set("for_ever", b"x")
    assert client.get("for_ever") == b"x"
    client.set("a_month", b"x", expire=MONTH_SECONDS)
    assert client.get("a_month") == b"x"
    # One second more is a moment in January 1970.
    assert client.set("past", b"x", expire=MONTH_SECONDS + 1) is True
    assert client.get("past") is None
    assert client.set("past", b"x", expire=-1) is True
    assert client.get("past") is None
    client.set("absolute", b"x", expire=int(time.time()) + 1_000)
    assert client.get("absolute") == b"x"


def test_an_absolute_moment_is_kept(client, wait_until):
    moment = int(time.time()) + 2
    client.set("until", b"x", expire=moment)
    assert client.get("until") == b"x"
    wait_until(lambda: client.get("until") is None, seconds_max=5, what="the moment comes")
    # memcached's clock counts whole seconds from its own start and may be up to one early.
    assert time.time() > moment - 1.1


def test_a_value_of_nearly_a_megabyte_is_kept_and_a_larger_one_refused(client):
    almost = random.Random(1).randbytes(MEGABYTE - 1_024)
    assert client.set("large", almost) is True
    assert client.get("large") == almost
    with pytest.raises(MemcacheServerError, match="object too large for cache"):
        client.set("large", bytes(MEGABYTE + 1))
    # The old value is not what was last set, so it must not be served.
    assert client.get("large") is None
    assert client.set("large", almost) is True
    assert client.get("large") == almost


def test_a_refusal_nobody_waits_for_leaves_the_connection_in_order(client):
    client.set("small", b"here")
    connection = client.sock
    for _ in range(5):
        client.set("large", bytes(2 * MEGABYTE), noreply=True)
        assert client.get("large") is None
        assert client.get("small") == b"here"
    assert client.sock is connection, "pymemcache drops its connection when a reply is not the one it expects"


def test_the_size_limit_is_an_option(start_server, connect):
    client = connect(start_server("-I", "4m", "-m", "64"))
    value = bytes(3 * MEGABYTE)
    assert client.set("large", value) is True
    assert client.get("large") == value
    assert client.stats("settings")[b"item_size_max"] == 4 * MEGABYTE
    with pytest.raises(MemcacheServerError, match="object too large for cache"):
        client.set("large", bytes(5 * MEGABYTE))


def test_add_and_replace_look_first(client):
    assert client.replace("key", b"1") is False
    assert client.add("key", b"2") is True
    assert client.add("key", b"3") is False
    assert client.get("key") == b"2"
    assert client.replace("key", b"4") is True
    assert client.get("key") == b"4"
    assert client.delete("key") is True
    assert client.delete("key") is False
    assert client.get("key", default=b"nothing") == b"nothing"


def test_append_and_prepend_keep_flags_and_expiry(server, connect, wait_until):
    client = connect(server)
    assert client.append("key", b"x") is False
    assert client.prepend("key", b"x") is False
    client.set("key", b"middle", expire=2, flags=77)
    assert client.append("key", b" end", flags=5) is True
    assert client.prepend("key", b"start ", expire=9_000) is True
    assert client.raw_command("get key", "END\r\n") == b"VALUE key 77 16\r\nstart middle end\r\n"
    wait_until(lambda: client.get("key") is None, seconds_max=5, what="the first expiry comes")


def test_flush_all_forgets_what_was_and_not_what_comes(client):
    client.set_many({f"key{number}": b"old" for number in range(100)})
    assert client.flush_all() is True
    # Stored in the same second as the flush.
    client.set("key1", b"new")
    assert client.get_many([f"key{number}" for number in range(100)]) == {"key1": b"new"}


def test_a_delayed_flush_waits_and_happens_once(server, client, wait_until):
    client.set("before", b"x")
    assert client.flush_all(delay=2) is True
    assert client.get("before") == b"x"
    client.set("between", b"x")
    wait_until(lambda: client.get_many(["before", "between"]) == {}, seconds_max=5, what="the flush")
    if not server.has_a_fine_clock:
        time.sleep(1.1)
    client.set("after", b"x")
    time.sleep(1.1)
    assert client.get("after") == b"x"


def test_stats_count_what_was_done(server, client):
    client.set("key", b"1")
    client.get("key")
    client.get_many(["key", "nothing"])
    client.incr("key", 1)
    client.incr("nothing", 1)
    client.delete("nothing")
    client.touch("key", 10)
    stats = client.stats()
    expected = {
        b"pid": server.pid,
        b"cmd_get": 3,
        b"cmd_set": 1,
        b"cmd_touch": 1,
        b"get_hits": 2,
        b"get_misses": 1,
        b"incr_hits": 1,
        b"incr_misses": 1,
        b"delete_misses": 1,
        b"touch_hits": 1,
        b"curr_items": 1,
        b"curr_connections": stats[b"curr_connections"],
        b"limit_maxbytes": 64 * MEGABYTE,
        b"evictions": 0,
    }
    assert {name: stats[name] for name in expected} == expected
    assert stats[b"curr_connections"] >= 1
    assert abs(stats[b"time"] - time.time()) < 5
    assert stats[b"bytes"] > 0
    settings = client.stats("settings")
    assert (settings[b"maxbytes"], settings[b"maxconns"]) == (64 * MEGABYTE, 1_024)
    assert (settings[b"item_size_max"], settings[b"evictions"]) == (MEGABYTE, b"on")


def test_version_is_one_a_client_can_compare(client):
    version = client.version()
    numbers = [int(number) for number in version.split(b"-")[0].split(b".")]
    assert numbers >= [1, 4]
    assert client.stats()[b"version"] == version


def test_replies_stay_with_their_requests_whether_awaited_or_not(server, connect):
    # A quiet request followed by another would wait for Nagle's algorithm: 40 ms each time.
    client = connect(server, no_delay=True)
    for number in range(300):
        quiet = number % 2 == 0
        text = b"%d" % number
        assert client.set("key", text, noreply=quiet) is True
        assert client.get("key") == text
        assert client.add("key", b"no", noreply=quiet) is quiet
        assert client.replace("key", text, noreply=not quiet) is True
        assert client.incr("key", 1, noreply=quiet) == (None if quiet else number + 1)
        assert int(client.get("key")) == number + 1
        assert client.touch("key", 60, noreply=quiet) is True
        assert client.append("nothing", b"x", noreply=quiet) is quiet
        assert client.cas("key", b"mine", "1", noreply=quiet) is quiet
        assert client.delete("key", noreply=quiet) is True
        assert client.get("key") is None
    assert client.flush_all(noreply=True) is True
    assert client.get("key") is None


def test_touch_and_gat_give_new_time(client):
    assert client.touch("key", 10) is False
    for key in ["touched", "got", "key"]:
        client.set(key, b"value", expire=2, flags=3)
    assert client.touch("touched", 1_000) is True
    assert client.raw_command("gat 5000 got nothing", "END\r\n") == b"VALUE got 3 5\r\nvalue\r\n"
    _, version = client.gets("key")
    assert client.raw_command("gats 0 key", "END\r\n") == b"VALUE key 3 5 %s\r\nvalue\r\n" % version
    time.sleep(2.5)
    assert client.get_many(["touched", "got", "key"]) == dict.fromkeys(["touched", "got", "key"], b"value")
    assert client.touch("key", -1) is True
    assert client.get("key") is None


def test_a_thousand_keys_travel_together(client):
    values = {f"a/rather/long/key/for/item/{number}": b"value %d" % number for number in range(1_000)}
    assert client.set_many(values) == []
    assert client.get_many(values) == values
    assert client.get_many([*list(values)[::2], "nothing"]) == dict(list(values.items())[::2])
    assert client.delete_many(list(values)[:500]) is True
    assert client.get_many(values) == dict(list(values.items())[500:])
    assert client.delete_many(list(values), noreply=True) is True
    assert client.get_many(values) == {}


def test_the_memory_limit_moves_while_the_server_runs(client):
    assert client.cache_memlimit(16) is True
    assert client.stats()[b"limit_maxbytes"] == 16 * MEGABYTE
    with pytest.raises(MemcacheUnknownError, match="MEMLIMIT_TOO_SMALL"):
        client.cache_memlimit(4)
    assert client.stats()[b"limit_maxbytes"] == 16 * MEGABYTE
    assert client.cache_memlimit(128) is True
    assert client.stats("settings")[b"maxbytes"] == 128 * MEGABYTE


def test_a_small_cache_forgets_the_oldest_and_keeps_the_newest(start_server, connect):
    client = connect(start_server("-m", "8"))
    for number in range(3_000):
        client.set(f"key{number}", bytes(10_000), noreply=True)
    stats = client.stats()
    assert stats[b"evictions"] > 0
    assert stats[b"bytes"] <= 8 * MEGABYTE
    assert client.get("key2999") == bytes(10_000)


def test_a_pool_shared_by_threads_never_mixes_replies(server):
    threads, operations = 8, 500
    pool = PooledClient(
        server.address,
        max_pool_size=threads,
        default_noreply=False,
        no_delay=True,
        connect_timeout=5,
        timeout=10,
    )
    start = threading.Barrier(threads)

    def work(thread):
        start.wait()
        for number in range(operations):
            key, value = f"{thread}/{number % 10}", f"{thread}/{number}/".encode() * (number % 50 + 1)
            match number % 5:
                case 0 | 1:
                    pool.set(key, value)
                    assert pool.get(key) == value
                case 2:
                    pool.set(key, value, noreply=True)
                    # Without a reply to wait for, the next request may overtake on another connection.
                    assert pool.get(key) is None or pool.get(key).startswith(b"%d/" % thread)
                case 3:
                    found = pool.get_many([f"{thread}/{each}" for each in range(10)])
                    assert all(each.startswith(b"%d/" % thread) for each in found.values())
                case 4:
                    pool.incr("shared", 1)

    pool.set("shared", "0")
    with ThreadPoolExecutor(threads) as workers:
        for done in [workers.submit(work, thread) for thread in range(threads)]:
            done.result()
    assert pool.get("shared") == b"%d" % (threads * operations // 5)
    pool.close()


def test_a_key_may_have_250_bytes(server, connect):
    client = connect(server)
    longest = "k" * 250
    client.set(longest, b"value")
    assert client.get(longest) == b"value"
    assert client.get_many([longest, "k" * 249]) == {longest: b"value"}
    with pytest.raises(MemcacheIllegalInputError):
        client.set("k" * 251, b"value")
    # What the client would not send, sent all the same.
    with pytest.raises(MemcacheClientError, match="bad command line format"):
        client.raw_command("get " + "k" * 251)
    prefixed = connect(server, key_prefix=b"k" * 200)
    assert prefixed.get("k" * 50) == b"value"


def test_a_key_may_be_utf_8(server, connect):
    client = connect(server, allow_unicode_keys=True)
    values = {"ключ": b"1", "clé-été": b"2", "鍵": b"3", "🗝" * 62: b"4"}
    assert client.set_many(values) == []
    assert client.get_many(values) == values
    assert all(client.delete(key) for key in values)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\r\n",
        b"\r\nEND\r\n",
        b"x\r\nVALUE key 0 1\r\ny\r\nEND\r\n",
        bytes(range(256)) * 9,
        b"\0" * 4_097,
    ],
    ids=["empty", "line_end", "end", "a_reply", "every_byte", "zeros"],
)
def test_a_value_may_be_any_bytes(client, value):
    client.set("key", value)
    client.set("other", b"other")
    assert client.get("key") == value
    assert client.get_many(["other", "key"]) == {"other": b"other", "key": value}
    client.append("key", value)
    assert client.get("key") == value * 2


def test_a_client_that_quits_can_return(client):
    client.set("key", b"value")
    client.quit()
    assert client.get("key") == b"value"
