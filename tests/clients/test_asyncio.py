"""The clients of asyncio, each as its users have it: aiomcache, aiocache on top of it, and emcache, over TLS as well."""

import asyncio
from contextlib import asynccontextmanager

import aiomcache
import emcache
import pytest
from aiocache import Cache, cached
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock
from aiocache.serializers import JsonSerializer, StringSerializer


@asynccontextmanager
async def aiomcache_client(server):
    client = aiomcache.Client(server.host, server.port, pool_size=4)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def aiocache_client(server, **options):
    cache = Cache(Cache.MEMCACHED, endpoint=server.host, port=server.port, **options)
    try:
        yield cache
    finally:
        await cache.close()


@asynccontextmanager
async def emcache_client(server, **options):
    client = await emcache.create_client([emcache.MemcachedHostAddress(server.host, server.port)], **options)
    try:
        yield client
    finally:
        await client.close()


def test_aiomcache_asks_the_source_once(server):
    asked = []

    async def page(client, number):
        found = await client.get(b"page:%d" % number)
        if found is None:
            asked.append(number)
            found = b"page %d" % number
            await client.set(b"page:%d" % number, found, exptime=60)
        return found

    async def story():
        async with aiomcache_client(server) as client:
            assert [await page(client, number) for number in [1, 2, 1, 2]] == [b"page 1", b"page 2"] * 2
            assert asked == [1, 2]
            assert await client.delete(b"page:1") is True
            assert await client.delete(b"page:1") is False
            # Many at once share four connections.
            pages = await asyncio.gather(*(page(client, number) for number in range(2, 202)))
            assert pages == [b"page %d" % number for number in range(2, 202)]
            keys = [b"page:%d" % number for number in range(1, 202)]
            assert await client.multi_get(*keys) == (None, *pages)

    asyncio.run(story())


def test_aiomcache_counts_compares_and_extends(server):
    async def story():
        async with aiomcache_client(server) as client:
            assert await client.add(b"visits", b"10") is True
            assert await client.add(b"visits", b"0") is False
            await asyncio.gather(*(client.incr(b"visits") for _ in range(100)))
            assert await client.decr(b"visits", 9) == 101
            assert await client.decr(b"visits", 1000) == 0
            with pytest.raises(aiomcache.ClientException):
                await client.incr(b"nothing")

            _, token = await client.gets(b"visits")
            assert await client.cas(b"visits", b"mine", token) is True
            assert await client.cas(b"visits", b"too late", token) is False
            assert await client.append(b"visits", b" and") is True
            assert await client.prepend(b"visits", b"all ") is True
            assert await client.get(b"visits") == b"all mine and"
            assert await client.replace(b"nothing", b"x") is False
            assert await client.gets(b"nothing") == (None, None)

            assert await client.touch(b"visits", -1) is True
            assert await client.get(b"visits") is None
            assert await client.touch(b"visits", 1) is False
            assert (await client.stats())[b"curr_items"] == b"0"
            assert (await client.version()).startswith(b"1.6.")
            large = bytes(range(256)) * 4000
            await client.set(b"large", large)
            assert await client.get(b"large") == large
            await client.flush_all()
            assert await client.get(b"large") is None

    asyncio.run(story())


@pytest.mark.parametrize("round", range(3))
def test_after_its_second_an_item_is_missing(server, round):
    async def story():
        async with (
            aiomcache_client(server) as plain,
            aiocache_client(server) as cache,
            emcache_client(server) as fast,
        ):
            await plain.set(b"plain", b"x", exptime=1)
            await cache.set("cache", "x", ttl=1)
            await fast.set(b"fast", b"x", exptime=1)
            await fast.set(b"touched", b"x")
            await fast.touch(b"touched", 1)
            assert [await plain.get(b"plain"), await cache.get("cache")] == [b"x", "x"]
            assert (await fast.get(b"touched")).value == b"x"
            await asyncio.sleep(1)
            keys = [b"plain", b"cache", b"fast", b"touched"]
            assert await plain.multi_get(*keys) == (None,) * 4
            assert await cache.get("cache") is None
            assert await fast.get_many(keys) == {}
            assert await cache.exists("cache") is False

    asyncio.run(story())


def test_aiocache_decorates_functions(server):
    asked = []

    async def story():
        @cached(ttl=60, cache=Cache.MEMCACHED, endpoint=server.host, port=server.port,
                key_builder=lambda function, number: f"user-{number}", serializer=JsonSerializer())
        async def user(number):
            asked.append(number)
            return {"id": number, "name": f"Ünï {number}"}

        for _ in range(3):
            assert await user(7) == {"id": 7, "name": "Ünï 7"}
        assert await user(8) == {"id": 8, "name": "Ünï 8"}
        assert asked == [7, 8]
        await user.cache.close()

    asyncio.run(story())


def test_aiocache_moves_many_counts_and_locks(server):
    async def story():
        async with (
            aiocache_client(server, namespace="shop:", serializer=JsonSerializer()) as shop,
            aiocache_client(server, serializer=StringSerializer()) as other,
        ):
            await shop.multi_set([(f"item{number}", {"price": number}) for number in range(50)], ttl=60)
            found = await shop.multi_get([f"item{number}" for number in range(51)])
            assert found == [{"price": number} for number in range(50)] + [None]
            assert await other.get("item1") is None
            assert await other.get("shop:item1") == '{"price": 1}'
            with pytest.raises(ValueError, match="already exists"):
                await shop.add("item1", 0)
            assert [await shop.delete("item1"), await shop.delete("item1")] == [1, 0]

            await other.set("visits", "5")
            assert [await other.increment("visits", 3), await other.increment("visits", -2)] == [8, 6]
            await other.set("word", "w")
            with pytest.raises(TypeError):
                await other.increment("word")

            async with OptimisticLock(other, "visits") as mine:
                await mine.cas("7")
            with pytest.raises(OptimisticLockError):
                async with OptimisticLock(other, "visits") as late:
                    await other.set("visits", "8")
                    await late.cas("9")
            assert await other.get("visits") == "8"

            computed = []

            async def compute():
                async with RedLock(other, "report", lease=5):
                    if await other.get("report") is None:
                        computed.append(1)
                        await other.set("report", "done", ttl=60)
                return await other.get("report")

            assert await asyncio.gather(*(compute() for _ in range(5))) == ["done"] * 5
            assert computed == [1]

    asyncio.run(story())


async def use_emcache(client):
    """A scenario of its users: alone, many at once, in one command, counted, compared, and gone."""
    await client.set(b"greeting", b"hello", flags=7, exptime=60)
    item = await client.get(b"greeting", return_flags=True)
    assert (item.value, item.flags, item.cas) == (b"hello", 7, None)
    assert await client.get(b"nothing") is None
    await asyncio.gather(*(client.set(b"key%d" % number, b"%d" % number) for number in range(200)))
    keys = [b"key%d" % number for number in range(200)]
    found = await client.get_many([*keys, b"nothing"])
    assert {key: item.value for key, item in found.items()} == {key: key[3:] for key in keys}
    with pytest.raises(emcache.NotStoredStorageCommandError):
        await client.add(b"greeting", b"again")

    await client.set(b"visits", b"0")
    await asyncio.gather(*(client.increment(b"visits", 2) for _ in range(50)))
    assert await client.decrement(b"visits", 1) == 99
    with pytest.raises(emcache.NotFoundCommandError):
        await client.increment(b"nothing", 1)

    first = (await client.gets(b"visits")).cas
    await client.cas(b"visits", b"mine", first)
    with pytest.raises(emcache.StorageCommandError):
        await client.cas(b"visits", b"too late", first)
    await client.append(b"visits", b"!", noreply=True)
    assert (await client.gat(60, b"visits")).value == b"mine!"
    await client.delete(b"visits")
    with pytest.raises(emcache.NotFoundCommandError):
        await client.touch(b"visits", 60)
    large = bytes(range(256)) * 4000
    await client.set(b"large", large)
    assert (await client.get(b"large")).value == large


@pytest.mark.parametrize("autobatching", [False, True], ids=["one_by_one", "batches"])
def test_emcache(server, autobatching):
    async def story():
        async with emcache_client(server, autobatching=autobatching, max_connections=4) as client:
            await use_emcache(client)

    asyncio.run(story())


@pytest.mark.parametrize("verify", [True, False])
def test_emcache_over_tls_with_a_certificate_of_version_1(start_server, version_1_certificate, verify):
    files = version_1_certificate
    server = start_server("-Z", "-o", f"ssl_chain_cert={files}/server.pem,ssl_key={files}/server.key")
    trust = {"ssl_extra_ca": str(files / "ca.pem")} if verify else {"ssl_verify": False}

    async def story():
        async with emcache_client(server, ssl=True, **trust) as client:
            await use_emcache(client)

    asyncio.run(story())
