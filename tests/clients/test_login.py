"""pymemcache against a server with -Y: its users log in by storing "user password" under any key."""

import hashlib
import os
import re
import signal
from contextlib import closing
from pathlib import Path

import pytest
from pymemcache.client.base import Client
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


def test_each_connection_of_the_manuals_pool_logs_in(start_with_users):
    server, _ = start_with_users("ann:sesame:prefix=shop")
    manual = (Path(__file__).parents[2] / "src/manual/access.md").read_text()
    example = re.search(r"<!-- login -->\n```python\n(.*?)```", manual, re.DOTALL).group(1)
    # Its port was chosen by the system.
    said = example.replace("127.0.0.1:11211", server.name)
    assert said != example
    names = {}
    exec(said, names)
    with closing(names["cache"]) as cache:
        assert cache.set("k", "v", noreply=False)
        for _ in range(3):
            with pytest.raises(MemcacheClientError, match="non-numeric"):
                cache.incr("k", 1)
            assert cache.get_many(["k", "l"]) == {"k": b"v"}


@pytest.fixture
def start_with_users(start_server, tmp_path):
    """Starts a server with these lines as its file of users, and gives it with what writes the file again."""

    def start(*lines):
        users = tmp_path / "users"

        def write(*lines):
            users.write_text("".join(f"{line}\n" for line in lines))
            users.chmod(0o600)

        write(*lines)
        return start_server("-Y", str(users)), write

    return start


@pytest.fixture
def log_in(connect):
    def log_in(server, user, password):
        client = connect(server)
        assert client.set("auth", f"{user} {password}")
        return client

    return log_in


def test_users_with_prefixes_live_apart(start_with_users, log_in):
    server, _ = start_with_users("shop:a:prefix=shop", "blog:b:prefix=blog", "reader:c:ro,prefix=shop", "operator:d")
    shop, blog = log_in(server, "shop", "a"), log_in(server, "blog", "b")
    for tenant, value in [(shop, b"cart"), (blog, b"post")]:
        assert tenant.set_many({"k": value, "n": b"1"}) == []
    assert shop.get_many(["k", "n"]) == {"k": b"cart", "n": b"1"}
    assert blog.get("k") == b"post"
    # Knowing the other's prefix does not help, nor do the commands that count, compare and drop.
    assert blog.get("shop:k") is None
    assert blog.delete("n") and blog.incr("n", 1) is None and shop.incr("n", 1) == 2
    value, cas = shop.gets("k")
    assert shop.cas("k", value + b"s", cas) and blog.get("k") == b"post"
    # Not by raw_command, which forgets what came before the piece with the end.
    blog.sock.sendall(b"lru_crawler metadump all\r\n")
    with blog.sock.makefile("rb") as replies:
        ok, item = iter(replies.readline, b"END\r\n")
    assert ok == b"OK\r\n" and item.startswith(b"key=k ")
    assert blog.flush_all()
    assert blog.get("k") is None and shop.get("k") == b"carts"

    reader = log_in(server, "reader", "c")
    assert reader.get("k") == b"carts"
    for change in [lambda client: client.set("k", b"x"), lambda client: client.delete("k"),
                   lambda client: client.incr("n", 1), lambda client: client.touch("k", 1), Client.flush_all]:
        # pymemcache opens another connection after an error.
        with pytest.raises(MemcacheClientError, match="not allowed for a read-only user"):
            change(log_in(server, "reader", "c"))
    operator = log_in(server, "operator", "d")
    assert operator.get_many(["k", "shop:k", "shop:n"]) == {"shop:k": b"carts", "shop:n": b"2"}
    assert operator.set("blog:k", b"from above") and blog.get("k") == b"from above"


def test_sighup_changes_passwords_and_rights(start_with_users, log_in, connect, wait_until):
    server, write = start_with_users("ann:old")
    before = log_in(server, "ann", "old")
    # Both passwords are good while they change, then only the new one is.
    write("ann:old", "ann:new")
    os.kill(server.pid, signal.SIGHUP)

    def is_good(password):
        try:
            return connect(server).set("auth", f"ann {password}")
        except MemcacheClientError as refused:
            assert "authentication failure" in str(refused)
            return False

    wait_until(lambda: is_good("new"), seconds_max=10)
    assert is_good("old")
    write("ann:new:ro")
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: not is_good("old"), seconds_max=10)

    # Who is logged in keeps the rights of that moment; who comes now has those of now.
    assert before.set("k", b"v")
    after = log_in(server, "ann", "new")
    assert after.get("k") == b"v"
    with pytest.raises(MemcacheClientError, match="read-only"):
        after.set("k", b"w")
