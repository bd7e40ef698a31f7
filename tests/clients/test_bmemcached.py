"""python-binary-memcached, in packets of the binary protocol and nothing else."""

import hashlib
import random
import time

import bmemcached
import pytest
from bmemcached.exceptions import MemcachedException
from pymemcache.exceptions import MemcacheClientError, MemcacheUnexpectedCloseError

# Statuses of the protocol.
TOO_LARGE, INVALID, NOT_A_NUMBER, STRANGER = 3, 4, 6, 0x20


@pytest.fixture
def connect_in_packets():
    """Opens clients, and closes them at the end."""
    clients = []

    def open_client(*servers, kind=bmemcached.Client, **options):
        clients.append(kind([server.name for server in servers], socket_timeout=10, **options))
        return clients[-1]

    yield open_client
    for client in clients:
        client.disconnect_all()


@pytest.fixture
def client(server, connect_in_packets):
    return connect_in_packets(server)


def status_of(call, *arguments, **options):
    with pytest.raises(MemcachedException) as refused:
        call(*arguments, **options)
    return refused.value.code


def test_values_of_each_kind_come_back(client, connect_in_packets, server):
    noise = random.Random(5).randbytes(1_000_000)
    page = {"title": "Ünï", "rows": [1, 2.5, None, True]}
    for value in ["text", "Ünï", "", b"", b"\0\r\n\x80\x81", 42, 1 << 70, page, "x" * 3_000_000, noise]:
        assert client.set("value", value)
        assert client.get("value") == connect_in_packets(server).get("value") == value
    for key in ["schlüssel", "k" * 250, "with space", "with\nline"]:
        assert client.set(key, key)
        assert client.get(key) == key
    assert client.get("nothing") is None and client.get("nothing", "default") == "default"


def test_what_cannot_be_stored_is_refused_and_the_connection_goes_on(client):
    assert client.set("value", "old")
    noise = random.Random(5).randbytes(1_100_000)
    assert status_of(client.set, "value", noise) == TOO_LARGE
    # What was there is not what was meant to be there.
    assert client.get("value") is None
    assert client.set("value", "new") and client.get("value") == "new"


def test_after_a_key_that_is_too_long_the_client_connects_again(client):
    assert client.set("value", "x")
    assert status_of(client.set, "k" * 251, "x") == INVALID
    # memcached closes as well: the client finds the connection closed, and calls that a miss.
    assert client.get("value") is None
    assert client.get("value") == "x"
    assert status_of(client.get, "k" * 251) == INVALID


def test_many_keys_at_once(client):
    values = {f"key{number}": f"value {number}" for number in range(2000)}
    assert client.set_multi(values, time=60) == []
    assert client.get_multi([*values, "nothing"]) == values
    # The last key is asked for otherwise than the others.
    assert client.get_multi(["nothing", "key7"]) == {"key7": "value 7"}
    assert client.get_multi(["nothing", "neither"]) == {}
    assert client.delete_multi(["key7", "key8"]) is True
    assert client.delete_multi(["key8", "key9"]) is False
    assert sorted(client.get_multi(["key7", "key8", "key9", "key10"])) == ["key10"]


def test_add_replace_and_delete_look_what_is_there(client):
    assert client.replace("key", "replaced") is False
    assert client.add("key", "added") is True
    assert client.add("key", "again") is False
    assert client.get("key") == "added"
    assert client.replace("key", "replaced") is True
    assert client.get("key") == "replaced"
    assert client.delete("key") is True
    assert client.get("key") is None


def test_changes_made_meanwhile_are_noticed(client, connect_in_packets, server):
    other = connect_in_packets(server)
    stored, first = client.set("page", "draft", get_cas=True)
    assert stored and client.gets("page") == ("draft", first)
    assert other.set("page", "theirs")
    assert client.cas("page", "mine", first) is False
    assert client.delete("page", cas=first) is False
    value, second = client.gets("page")
    assert value == "theirs" and second != first
    stored, third = client.cas("page", "mine", second, get_cas=True)
    assert stored and client.get("page", get_cas=True) == ("mine", third)
    assert client.cas("nothing", "x", third) is False
    # Quietly, among others: only what fails is told.
    assert client.set_multi({("page", second): "late", "plain": "x", ("page", third): "in time"}) == [("page", 0)]
    assert client.get_multi(["page", "plain"], get_cas=True).keys() == {"page", "plain"}
    assert client.set_multi({("page", 0): "added", ("new", 0): "added"}) == [("page", 0)]
    assert client.get_multi(["page", "new"]) == {"page": "in time", "new": "added"}
    ids = client.set_multi_cas({"page": "a", ("page2", 0): "b", ("new", 0): "c"})
    assert ids == {"page": client.gets("page")[1], "page2": client.gets("page2")[1], "new": None}
    assert client.delete("page2", cas=ids["page2"]) is True
    assert client.get("page2") is None


def test_counters_begin_at_their_default(client):
    assert client.incr("visits", 5, default=100) == 100
    assert [client.incr("visits", 5), client.decr("visits", 6), client.decr("visits", 1000)] == [105, 99, 0]
    assert client.set("largest", (1 << 64) - 1)
    assert client.incr("largest", 1) == 0
    assert client.set("word", "forty")
    assert status_of(client.incr, "word", 1) == NOT_A_NUMBER
    # By any time before the year 1970 they would begin at nothing.
    client.decr("brief", 1, default=7, time=1)
    assert client.decr("brief", 1, default=7, time=1) == 6
    time.sleep(1)
    assert client.get("brief") is None
    assert client.decr("brief", 1, default=7, time=60) == 7


def test_after_its_second_an_item_is_missing(client):
    for _ in range(3):
        assert client.set("brief", "x", time=1) and client.set("lasting", "x", time=60)
        assert client.set_multi({"one": 1, "two": 2}, time=1) == []
        expected = {"brief": "x", "lasting": "x", "one": 1, "two": 2}
        assert client.get_multi(list(expected)) == expected
        time.sleep(1)
        assert client.get("brief") is None
        assert client.get_multi(["one", "lasting", "two"]) == {"lasting": "x"}
        assert client.replace("brief", "y") is False


def test_flush_all_and_stats(server, client):
    assert client.set_multi({f"key{number}": number for number in range(10)}) == []
    stats = client.stats()[server.name]
    assert (stats["pid"], stats["curr_items"], stats["cmd_set"]) == (b"%d" % server.pid, b"10", b"10")
    assert client.stats("settings")[server.name]["maxconns"] == b"1024"
    assert client.flush_all() is True
    assert client.get_multi([f"key{number}" for number in range(10)]) == {}
    assert client.set("after", "x") and client.get("after") == "x"
    assert client.flush_all(time=2) is True and client.get("after") == "x"
    time.sleep(2.1)
    assert client.get("after") is None


def test_clients_of_both_protocols_see_the_same(server, client, connect):
    in_text = connect(server)
    assert client.set("packets", b"\0packets\r\n")
    assert in_text.get("packets") == b"\0packets\r\n"
    assert in_text.set("text", b"17", flags=1 << 1)
    assert client.get("text") == 17 and client.incr("text", 1) == 18
    _, token = in_text.gets("text")
    assert client.gets("text")[1] == int(token)


def test_keys_are_spread_over_servers(server, start_server, connect_in_packets):
    other = start_server()
    client = connect_in_packets(server, other, kind=bmemcached.DistributedClient)
    values = {f"key{number}": number for number in range(200)}
    assert client.set_multi(values) == []
    assert client.get_multi(list(values)) == values
    shares = [connect_in_packets(one).get_multi(list(values)) for one in (server, other)]
    assert all(shares) and shares[0] | shares[1] == values and len(shares[0]) + len(shares[1]) == 200


def test_a_server_for_packets_only(start_server, connect, connect_in_packets):
    server = start_server("-B", "binary")
    assert connect_in_packets(server).set("key", "x")
    with pytest.raises(MemcacheUnexpectedCloseError):
        connect(server).get("key" * 30)
    assert connect_in_packets(server).get("key") == "x"


def test_who_has_a_password_for_a_server_without_any_is_served(server, connect_in_packets):
    client = connect_in_packets(server, username="ann", password="sesame")
    assert client.set("key", "x") and client.get("key") == "x"


def test_who_does_not_log_in_is_refused(guarded, connect_in_packets):
    for ask in [
        lambda client: client.set("key", "x"),
        lambda client: client.get("key"),
        lambda client: client.get_multi(["key", "other"]),
        lambda client: client.incr("key", 1),
        lambda client: client.delete("key"),
        lambda client: client.flush_all(),
    ]:
        # It is closed, too, as by memcached.
        assert status_of(ask, connect_in_packets(guarded)) == STRANGER
    assert "pid" not in connect_in_packets(guarded).stats()[guarded.name]


def test_a_wrong_password_is_refused_and_the_right_one_helps(guarded, connect_in_packets):
    for user, password in [("ann", "wrong"), ("ann", "sesame "), ("bob", "sesame"), ("ann\0", "sesame")]:
        liar = connect_in_packets(guarded, username=user, password=password)
        assert status_of(liar.set, "key", "of a liar") == STRANGER
    ann = connect_in_packets(guarded, username="ann", password="sesame")
    assert ann.get("key") is None
    assert ann.set_multi({f"key{number}": number for number in range(100)}) == []
    assert len(ann.get_multi([f"key{number}" for number in range(100)])) == 100
    assert ann.incr("visits", 1, default=5) == 5 and ann.delete("visits")
    # After the server closed, or after a pause, it logs in again.
    ann.disconnect_all()
    assert ann.get("key7") == 7


def test_rights_hold_in_packets(start_with_sasl, connect_in_packets):
    hashed = hashlib.sha256(b"secret").hexdigest()
    server = start_with_sasl("ann:sesame", f"bob:{{SHA256}}{hashed}:ro", "shop:sesame:prefix=shop")
    ann = connect_in_packets(server, username="ann", password="sesame")
    bob = connect_in_packets(server, username="bob", password="secret")
    shop = connect_in_packets(server, username="shop", password="sesame")
    assert ann.set("key", "of all") and shop.set("key", "of the shop")
    assert bob.get_multi(["key", "shop:key"]) == {"key": "of all", "shop:key": "of the shop"}
    for change in [lambda: bob.set("key", "x"), lambda: bob.delete("key"), lambda: bob.incr("n", 1, default=1)]:
        assert status_of(change) == STRANGER
    assert shop.get_multi(["key", "shop:key"]) == {"key": "of the shop"}
    assert shop.flush_all() and shop.get("key") is None and ann.get("key") == "of all"


def test_users_of_the_environment(start_server, connect_in_packets, monkeypatch, connect):
    monkeypatch.setenv("MEMCACHED_USERNAME", "ann")
    monkeypatch.setenv("MEMCACHED_PASSWORD", "sesame")
    server = start_server()
    assert status_of(connect_in_packets(server).get, "key") == STRANGER
    assert connect_in_packets(server, username="ann", password="sesame").set("key", "x")
    in_text = connect(server)
    assert in_text.set("auth", "ann sesame") and in_text.get("key") == b"x"


def test_users_of_memcacheds_own_file(start_server, connect_in_packets, monkeypatch, tmp_path, connect):
    users = tmp_path / "users"
    users.write_text("ann:sesame\nbob:secret\n")
    users.chmod(0o600)
    monkeypatch.setenv("MEMCACHED_SASL_PWDB", str(users))
    server = start_server("-S")
    assert status_of(connect_in_packets(server).get, "key") == STRANGER
    assert connect_in_packets(server, username="ann", password="sesame").set("key", "x")
    assert connect_in_packets(server, username="bob", password="secret").get("key") == "x"
    with pytest.raises(MemcacheUnexpectedCloseError):
        connect(server).set("auth", "ann sesame")


def test_clients_of_both_protocols_log_in(guarded, connect_in_packets, connect):
    in_text = connect(guarded)
    assert in_text.set("auth", "ann sesame") and in_text.set("key", "x")
    assert connect_in_packets(guarded, username="ann", password="sesame").get("key") == "x"
    with pytest.raises(MemcacheClientError, match="unauthenticated"):
        connect(guarded).get("key")
