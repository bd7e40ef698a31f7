"""Three servers behind pymemcache's HashClient, one of which is killed and comes back."""

import pytest
from pymemcache.client.hash import HashClient

KEYS = [f"key{number}" for number in range(300)]
RETRY_SECONDS = 0.2
DEAD_SECONDS = 1.0


@pytest.fixture
def servers(start_server):
    return [start_server() for _ in range(3)]


@pytest.fixture
def open_hash_client(servers):
    clients = []

    def open_client(**options):
        clients.append(
            HashClient(
                [server.address for server in servers],
                default_noreply=False,
                connect_timeout=5,
                timeout=5,
                retry_attempts=1,
                retry_timeout=RETRY_SECONDS,
                dead_timeout=DEAD_SECONDS,
                **options,
            )
        )
        return clients[-1]

    yield open_client
    for client in clients:
        for each in client.clients.values():
            each.close()


def owner(client, key):
    return client.hasher.get_node(key)


def items(connect, server):
    return connect(server).stats()[b"curr_items"]


def test_keys_are_spread_over_all_servers(servers, open_hash_client, connect):
    client = open_hash_client()
    values = {key: key.encode() for key in KEYS}
    assert client.set_many(values) == []
    assert client.get_many(KEYS) == values
    counts = [items(connect, server) for server in servers]
    assert sum(counts) == len(KEYS)
    assert min(counts) > len(KEYS) // 10
    assert client.delete_many(KEYS[:100]) is True
    assert client.get_many(KEYS) == {key: key.encode() for key in KEYS[100:]}


@pytest.mark.parametrize("use_pooling", [False, True], ids=["single", "pooled"])
def test_one_death_costs_only_the_keys_of_the_dead(
    servers, open_hash_client, connect, wait_until, use_pooling, start_server
):
    client = open_hash_client(ignore_exc=True, use_pooling=use_pooling)
    for key in KEYS:
        assert client.set(key, key) is True
    dead = servers[1]
    lost = [key for key in KEYS if owner(client, key) == dead.name]
    kept = [key for key in KEYS if owner(client, key) != dead.name]

    for key in KEYS[:50]:
        assert client.get(key) == key.encode()
    dead.kill()
    # At once, before any client has made up its mind about the dead server.
    assert {key: client.get(key) for key in kept} == {key: key.encode() for key in kept}
    assert {client.get(key) for key in lost} == {None}

    # After the retries the client leaves the dead one out, and its keys move to the living.
    wait_until(
        lambda: client.set(lost[0], "moved") is True, seconds_max=5, what="writes move to the living servers"
    )
    for key in lost:
        assert client.set(key, "moved") is True
    assert {client.get(key) for key in lost} == {b"moved"}
    assert {key: client.get(key) for key in kept} == {key: key.encode() for key in kept}
    assert sum(items(connect, server) for server in servers if server is not dead) == len(KEYS)

    # On its old port and with nothing in it.
    back = start_server(port=dead.port)
    observer = connect(back)
    wait_until(
        lambda: client.get(lost[0]) is None and observer.stats()[b"get_misses"] > 0,
        seconds_max=DEAD_SECONDS + 4,
        what="the client tries the server again",
    )
    assert {client.get(key) for key in lost} == {None}
    assert items(connect, back) == 0
    for key in lost:
        assert client.set(key, "back") is True
    assert items(connect, back) == len(lost)
    assert {client.get(key) for key in lost} == {b"back"}
    assert {key: client.get(key) for key in kept} == {key: key.encode() for key in kept}


def test_without_ignore_exc_a_death_is_an_error_and_the_living_still_serve(servers, open_hash_client):
    client = open_hash_client()
    for key in KEYS:
        client.set(key, key)
    dead = servers[2]
    lost = [key for key in KEYS if owner(client, key) == dead.name]
    kept = [key for key in KEYS if owner(client, key) != dead.name]
    # A client that has not met the dead server yet sees a refused connection, not a lost one.
    fresh = open_hash_client()
    dead.kill()
    with pytest.raises(ConnectionRefusedError):
        fresh.get(lost[0])
    for each in (client, fresh):
        assert {key: each.get(key) for key in kept} == {key: key.encode() for key in kept}
