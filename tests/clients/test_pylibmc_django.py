"""pylibmc, which is libmemcached, in both protocols; alone, and as Django has it. Django with pymemcache, too."""

import os
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.core.cache import CacheHandler

# Debian's; the library in pylibmc's wheel would look elsewhere, once, when it is loaded.
os.environ["SASL_PATH"] = ":".join(str(path.parent) for path in Path("/usr/lib").glob("*/sasl2/libplain.so"))

import pylibmc  # noqa: E402

settings.configure()

BEHAVIORS = {"cas": True, "tcp_nodelay": True, "connect_timeout": 5000, "receive_timeout": 10_000_000}


@pytest.fixture(params=[False, True], ids=["text", "packets"])
def binary(request):
    """Whether the binary protocol is spoken."""
    return request.param


@pytest.fixture
def client(server, binary):
    client = pylibmc.Client([server.name], binary=binary, behaviors=BEHAVIORS)
    yield client
    client.disconnect_all()


# Every option but these is what Django and the library make it: the text protocol, and keys with a version.
BACKENDS = {
    "pymemcache": {"BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache"},
    "pylibmc-text": {"BACKEND": "django.core.cache.backends.memcached.PyLibMCCache"},
    "pylibmc-packets": {
        "BACKEND": "django.core.cache.backends.memcached.PyLibMCCache",
        "OPTIONS": {"binary": True},
    },
}


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture
def django(server, backend):
    cache = CacheHandler({"default": {**BACKENDS[backend], "LOCATION": server.name, "TIMEOUT": 60}})["default"]
    yield cache
    cache.close()


def test_pylibmc_works(server, client, binary):
    assert client.get("page") is None
    assert client.set("page", {"title": "Ünï", "rows": [1, 2.5, None]}, time=60)
    assert client.get("page") == {"title": "Ünï", "rows": [1, 2.5, None]}
    assert client.add("page", "again") is False
    if binary:
        # There a packet says what is amiss, in text one word is for all.
        with pytest.raises(pylibmc.NotFound):
            client.replace("nothing", "x")
    else:
        assert client.replace("nothing", "x") is False
    assert client.delete("page") is True and client.delete("page") is False

    values = {f"key{number}": f"value {number}" for number in range(500)}
    assert client.set_multi(values, time=60) == []
    assert client.get_multi([*values, "nothing"]) == values
    assert client.delete_multi(list(values)) is True

    assert client.set("visits", 10)
    assert [client.incr("visits"), client.incr("visits", 5), client.decr("visits", 6)] == [11, 16, 10]
    with pytest.raises(pylibmc.NotFound):
        client.incr("nothing")

    value, token = client.gets("visits")
    assert value == 10
    assert client.cas("visits", 11, token) is True
    assert client.cas("visits", 12, token) is False
    assert client.set("text", b"middle")
    assert client.append("text", b" end") and client.prepend("text", b"start ")
    assert client.get("text") == b"start middle end"
    large = bytes(range(256)) * 4000
    assert client.set("large", large)
    assert client.get("large") == large
    compressible = "x" * 3_000_000
    assert client.set("compressed", compressible, min_compress_len=1000)
    assert client.get("compressed") == compressible
    [(_, stats)] = client.get_stats()
    assert stats["pid"] == b"%d" % server.pid
    assert client.flush_all() is True
    assert client.get("large") is None


def test_writes_that_wait_for_no_answer_are_made(server, binary):
    # In packets it takes "buffered" for an error.
    behaviors = {"no_block": True, "buffer_requests": not binary, "_noreply": True}
    client = pylibmc.Client([server.name], binary=binary, behaviors=behaviors)
    for number in range(1000):
        client.set(f"key{number}", b"%d" % number)
    reader = pylibmc.Client([server.name])
    # Whatever still waits goes out with the client's first question.
    assert client.get("key999") == b"999"
    found = reader.get_multi([f"key{number}" for number in range(1000)])
    assert found == {f"key{number}": b"%d" % number for number in range(1000)}
    client.disconnect_all()
    reader.disconnect_all()


def test_after_its_second_an_item_is_missing(client, binary):
    for round in range(3):
        client.set("set", "x", time=1)
        client.set("touched", "x", time=1 if binary else 60)
        # In packets the library waits 5 seconds for more than there is in memcached's answer to this.
        assert binary or client.touch("touched", 1)
        assert client.get_multi(["set", "touched"]) == {"set": "x", "touched": "x"}
        time.sleep(1)
        assert client.get("set") is None
        assert client.get_multi(["set", "touched"]) == {}


def test_after_its_second_an_item_is_missing_in_django(django, backend):
    touches = backend != "pylibmc-packets"
    for round in range(3):
        django.set("set", "x", timeout=1)
        django.set("touched", "x", timeout=60 if touches else 1)
        assert not touches or django.touch("touched", 1)
        assert django.get("set") == django.get("touched") == "x"
        time.sleep(1)
        assert django.get_many(["set", "touched"]) == {}
        assert "set" not in django


def test_logging_in(guarded):
    with pytest.raises(pylibmc.Error):
        pylibmc.Client([guarded.name], binary=True).set("key", "of a stranger")
    ann = pylibmc.Client([guarded.name], binary=True, username="ann", password="sesame", behaviors=BEHAVIORS)
    assert ann.set_multi({"key": 1, "other": 2}) == []
    assert ann.get_multi(["key", "other"]) == {"key": 1, "other": 2}
    with pytest.raises(pylibmc.Error, match="AUTHENTICATION FAILURE"):
        pylibmc.Client([guarded.name], binary=True, username="ann", password="wrong").set("key", "of a liar")
    options = {"binary": True, "username": "ann", "password": "sesame"}
    backend = {**BACKENDS["pylibmc-packets"], "LOCATION": guarded.name, "OPTIONS": options}
    django = CacheHandler({"default": backend})["default"]
    assert django.get_or_set("page", "x") == "x"
    assert ann.get(":1:page") == "x" and ann.get("key") == 1


def test_django_works(django):
    asked = []

    def articles():
        asked.append(1)
        return [{"title": "Ünï"}]

    for _ in range(3):
        assert django.get_or_set("articles", articles, timeout=60) == [{"title": "Ünï"}]
    assert asked == [1]
    values = {f"key{number}": number for number in range(300)}
    assert django.set_many(values, timeout=60) == []
    assert django.get_many([*values, "nothing"]) == values
    django.delete_many(["key1", "key2"])
    assert django.get_many(["key1", "key2", "key3"]) == {"key3": 3}
    assert [django.incr("key3"), django.incr("key3", 10), django.decr("key3", 4)] == [4, 14, 10]
    with pytest.raises(ValueError, match="not found"):
        django.incr("nothing")
    assert django.add("key3", 0) is False
    # For ever, and for longer than the 30 days after which memcached takes a moment for a time to live.
    django.set("for-ever", "x", timeout=None)
    django.set("quarter", "x", timeout=90 * 24 * 60 * 60)
    assert django.get("for-ever") == django.get("quarter") == "x"
    assert django.incr_version("quarter") == 2
    assert django.get("quarter") is None and django.get("quarter", version=2) == "x"
    assert django.delete("quarter", version=2) is True
    django.clear()
    assert django.get("for-ever", default="gone") == "gone"


@pytest.mark.parametrize("backend", ["pymemcache", "pylibmc-text"])
def test_a_timeout_of_0_stores_what_has_expired(django):
    django.set("key", "old", timeout=60)
    django.set("key", "new", timeout=0)
    assert django.get("key") is None
    django.set("key", "old", timeout=60)
    django.set("key", "new", timeout=-1)
    assert django.get("key") is None
    assert django.add("key", "added", timeout=0) is True
    assert django.get("key") is None
    assert django.set_many({"key": 1, "other": 2}, timeout=0) == []
    assert django.get_many(["key", "other"]) == {}
    django.set("key", "stays", timeout=60)
    assert django.touch("key", timeout=0)
    assert django.get("key") is None


@pytest.mark.parametrize("backend", ["pylibmc-packets"])
def test_in_packets_a_timeout_of_0_ends_in_2106(django):
    # Django makes it -1, and a packet's 32 bits have no sign: memcached takes them for a moment, as ever above 30 days.
    django.set("key", "old", timeout=60)
    django.set("key", "new", timeout=0)
    assert django.get("key") == "new"
    assert django.touch("key", timeout=0)
    # Here it deletes, by itself.
    assert django.get("key") is None
