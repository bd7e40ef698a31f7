"""pymemcache against a server with -Y: its users log in by storing "user password" under any key."""

import hashlib

import pytest
from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheClientError


@pytest.fixture
def guarded(start_server, tmp_path):
    """A server that ann may use, and bob may read."""
    hashed = hashlib.sha256(b"secret").hexdigest()
    users = tmp_path / "users"
    users.write_text(f"ann:open:sesame\nbob:{{SHA256}}{hashed}:ro\n")
    users.chmod(0o600)
    return start_server("-Y", str(users))


def test_who_does_not_log_in_is_refused(guarded):
    client = Client(guarded.address, timeout=5)
    with pytest.raises(MemcacheClientError, match="unauthenticated"):
        client.get("k")


def test_a_wrong_password_is_refused_and_the_right_one_helps(guarded):
    client = Client(guarded.address, timeout=5)
    with pytest.raises(MemcacheClientError, match="authentication failure"):
        client.set("auth", "ann wrong", noreply=False)
    assert client.set("auth", "ann open:sesame", noreply=False)
    assert client.set("k", "v", noreply=False)
    assert client.get("k") == b"v"
    assert client.get("auth") is None


def test_who_may_only_read_reads(guarded):
    ann, bob = Client(guarded.address, timeout=5), Client(guarded.address, timeout=5)
    assert ann.set("auth", "ann open:sesame", noreply=False)
    assert ann.set("k", "v", noreply=False)
    assert bob.set("auth", "bob secret", noreply=False)
    assert bob.get("k") == b"v"
    with pytest.raises(MemcacheClientError, match="read-only"):
        bob.set("k", "w", noreply=False)


def test_each_connection_of_a_pool_logs_in(guarded):
    class LoggedIn(Client):
        def _connect(self):
            super()._connect()
            assert self.set("auth", "ann open:sesame", noreply=False)

    class Pool(PooledClient):
        client_class = LoggedIn

    pool = Pool(guarded.address, max_pool_size=3, timeout=5)
    assert pool.set("k", "v", noreply=False)
    assert pool.get_many(["k", "l"]) == {"k": b"v"}
