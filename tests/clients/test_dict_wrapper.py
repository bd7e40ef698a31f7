"""A dictionary shared by processes: pickled objects and counters under a key prefix, on top of pymemcache."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from pymemcache.client.base import PooledClient
from pymemcache.serde import pickle_serde

ABSENT = object()


class SharedDict:
    """What a dict does, as far as a cache can: it cannot be walked, and any entry may be gone.

    Whole numbers are stored as text, so that `count` may change them where they are; all else is pickled.
    Keys may be any text: those that memcached's line could not carry are replaced by their hash. `clear` starts
    a new generation: the old entries stay until they are evicted, but nobody asks for them any more.
    """

    def __init__(self, client, prefix, seconds=0):
        self._client = client
        self._prefix = prefix
        self._seconds = seconds

    def __getitem__(self, key):
        value = self._client.get(self._key(key), default=ABSENT)
        if value is ABSENT:
            raise KeyError(key)
        return value

    def __setitem__(self, key, value):
        self._client.set(self._key(key), value, expire=self._seconds)

    def __delitem__(self, key):
        if not self._client.delete(self._key(key)):
            raise KeyError(key)

    def __contains__(self, key):
        return self.get(key, ABSENT) is not ABSENT

    def get(self, key, default=None):
        try:
            return self[key]
        except KeyError:
            return default

    def setdefault(self, key, default=None):
        """Of all who come together, one sets; all get what that one set."""
        while True:
            if self._client.add(self._key(key), default, expire=self._seconds):
                return default
            value = self.get(key, ABSENT)
            if value is not ABSENT:
                return value

    def pop(self, key, default=ABSENT):
        """Of all who come together, one gets the value."""
        value = self.get(key, ABSENT)
        if value is not ABSENT and self._client.delete(self._key(key)):
            return value
        if default is ABSENT:
            raise KeyError(key)
        return default

    def update(self, values):
        self._client.set_many({self._key(key): value for key, value in values.items()}, expire=self._seconds)

    def count(self, key, step=1):
        """Adds to a counter, which starts from nothing."""
        change = self._client.incr if step >= 0 else self._client.decr
        while True:
            counted = change(self._key(key), abs(step))
            if counted is not None:
                return counted
            self._client.add(self._key(key), 0, expire=self._seconds)

    def clear(self):
        self._client.add(f"{self._prefix}/generation", 0)
        self._client.incr(f"{self._prefix}/generation", 1)

    def _key(self, key):
        generation = self._client.get(f"{self._prefix}/generation", default=0)
        plain = f"{self._prefix}/{generation}/{key}"
        if len(plain) <= 250 and plain.isascii() and plain.isprintable() and " " not in plain:
            return plain
        return f"{self._prefix}/{generation}/#{hashlib.sha256(key.encode()).hexdigest()}"


@dataclass(frozen=True)
class Point:
    x: int
    y: int


@pytest.fixture
def client(server):
    pool = PooledClient(
        server.address, serde=pickle_serde, default_noreply=False, connect_timeout=5, timeout=10
    )
    yield pool
    pool.close()


@pytest.fixture
def shared(client):
    return SharedDict(client, "shared")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3.5,
        "",
        "text",
        b"bytes\r\n",
        0,
        17,
        Point(1, 2),
        {"a": [1, (2, {3})]},
        list(range(10_000)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_object_comes_back_equal(shared, value):
    shared["key"] = value
    assert shared["key"] == value
    assert type(shared["key"]) is type(value)
    assert "key" in shared


def test_what_is_absent_is_a_key_error(shared):
    with pytest.raises(KeyError):
        shared["nothing"]
    with pytest.raises(KeyError):
        del shared["nothing"]
    with pytest.raises(KeyError):
        shared.pop("nothing")
    assert "nothing" not in shared
    assert (shared.get("nothing"), shared.get("nothing", 3), shared.pop("nothing", 4)) == (None, 3, 4)


def test_what_is_deleted_or_popped_is_absent(shared):
    shared.update({"a": 1, "b": [2], "c": None})
    assert (shared["a"], shared["b"], shared["c"]) == (1, [2], None)
    del shared["a"]
    assert shared.pop("b") == [2]
    assert shared.pop("c", "default") is None
    assert [key for key in "abc" if key in shared] == []


@pytest.mark.parametrize(
    "key",
    ["two words", "line\r\nend", "été", "k" * 300, ""],
    ids=["space", "line", "utf8", "long", "empty"],
)
def test_any_text_is_a_key(shared, key):
    shared[key] = "here"
    assert shared[key] == "here"
    del shared[key]
    assert key not in shared


def test_prefixes_keep_dictionaries_apart(client):
    users, pages = SharedDict(client, "users"), SharedDict(client, "pages")
    users["1"], pages["1"] = "ann", "home"
    users.clear()
    assert "1" not in users
    assert pages["1"] == "home"
    users["1"] = "bob"
    assert (users["1"], pages["1"]) == ("bob", "home")


def test_entries_expire(client, wait_until):
    brief = SharedDict(client, "brief", seconds=1)
    brief["key"] = "value"
    brief.count("visits")
    wait_until(lambda: "key" not in brief and "visits" not in brief, seconds_max=4, what="the entries expire")
    assert brief.count("visits") == 1


def test_counters_count_from_nothing_and_not_below_it(shared):
    assert [shared.count("visits") for _ in range(3)] == [1, 2, 3]
    assert shared.count("visits", 10) == 13
    assert shared.count("visits", -4) == 9
    assert shared["visits"] == 9
    assert shared.count("visits", -100) == 0
    shared["visits"] = 41
    assert shared.count("visits") == 42


def test_together_none_is_lost_and_nothing_is_given_twice(shared):
    with ThreadPoolExecutor(8) as hands:
        counts = list(hands.map(lambda _: shared.count("visits"), range(400)))
        owners = set(hands.map(lambda number: shared.setdefault("owner", f"owner {number}"), range(80)))
        for round_number in range(10):
            shared["ticket"] = round_number
            taken = list(hands.map(lambda _: shared.pop("ticket", None), range(16)))
            assert sorted(ticket for ticket in taken if ticket is not None) == [round_number]
    assert sorted(counts) == list(range(1, 401))
    assert len(owners) == 1
