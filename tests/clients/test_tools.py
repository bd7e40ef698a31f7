"""Tools that administrators use: memcached-tool of Debian's memcached, and those of libmemcached-tools."""

import re
import socket
import subprocess
from pathlib import Path

import pytest

MEMCACHED_TOOL = "/usr/share/memcached/scripts/memcached-tool"
RUN_SECONDS_MAX = 30

# Keys with everything in them that a tool might trip over, and what is stored under them.
ITEMS = {
    b"plain": (0, b"value"),
    b"percent%20sign/slash:colon": (7, b"x" * 5000),
    "schlüssel".encode(): (1 << 31, "größe".encode()),
    b"k" * 250: (4294967295, b""),
    b"two-lines": (3, b"first\r\nsecond\r\nEND\r\n"),
    b"large": (0, b"y" * 600_000),
}


def run(*command, status=0):
    """Runs a tool to its end; gives what it wrote to standard output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=RUN_SECONDS_MAX)
    assert done.returncode == status, (command, done)
    return done.stdout


@pytest.fixture
def memcached_tool():
    if not Path(MEMCACHED_TOOL).exists():
        pytest.fail(f"there is no {MEMCACHED_TOOL}; install Debian's package memcached")
    return lambda server, *words: run("perl", MEMCACHED_TOOL, server.name, *words)


@pytest.fixture
def libmemcached(program):
    """Runs a tool of libmemcached: `libmemcached(server, "memccat", "key")`."""

    def run_tool(server, name, *words, status=0):
        tool = program(name, "libmemcached-tools")
        return run(tool, f"--servers={server.name}", *words, status=status).decode()

    return run_tool


@pytest.fixture
def client(server, connect):
    client = connect(server, allow_unicode_keys=True)
    for key, (flags, value) in ITEMS.items():
        client.set(key, value, flags=flags)
    client.set(b"mortal", b"soon", expire=1000)
    return client


def raw(server, request, end):
    """What the server answers, up to and with `end`."""
    with socket.create_connection(server.address, timeout=RUN_SECONDS_MAX) as connection:
        connection.sendall(request)
        answer = b""
        while not answer.endswith(end):
            more = connection.recv(1 << 20)
            assert more, answer
            answer += more
        return answer


def stats(server, *words):
    """What `stats` tells, by name."""
    answer = raw(server, " ".join(["stats", *words]).encode() + b"\r\n", b"END\r\n").decode()
    return dict(re.fullmatch(r"STAT (\S+) (.*)", line).groups() for line in answer.splitlines()[:-1])


def test_memcached_tool_displays_one_class(server, client, memcached_tool):
    head, row = memcached_tool(server, "display").decode().splitlines()
    assert head.split() == "# Item_Size Max_age Pages Count Full? Evicted Evict_Time OOM".split()
    number, size, age, pages, count, _full, evicted, evict_time, oom = row.split()
    assert (number, count, evicted, evict_time, oom) == ("1", str(len(ITEMS) + 1), "0", "0", "0")
    assert re.fullmatch(r"[0-9.]+[BK]", size) and re.fullmatch(r"\d+s", age) and int(pages) >= 1


def test_memcached_tool_displays_nothing_of_an_empty_server(server, memcached_tool):
    assert len(memcached_tool(server, "display").decode().splitlines()) == 1


def test_memcached_tool_shows_stats_and_settings(server, client, memcached_tool):
    words = memcached_tool(server, "stats").decode().split()
    assert words[words.index("curr_items") + 1] == str(len(ITEMS) + 1)
    words = memcached_tool(server, "settings").decode().split()
    assert words[words.index("maxbytes") + 1] == str(64 << 20)


def test_memcached_tool_shows_sizes(server, client, memcached_tool):
    rows = [line.split() for line in memcached_tool(server, "sizes").decode().splitlines()[1:]]
    assert sum(int(count) for _, count in rows) == len(ITEMS) + 1
    assert all(int(size) % 32 == 0 for size, _ in rows)
    # The large one, its last page and all.
    assert any(600_000 < int(size) < 610_000 for size, _ in rows)


def test_memcached_tool_lists_keys(server, client, memcached_tool):
    lines = memcached_tool(server, "keys").decode().splitlines()
    assert len(lines) == len(ITEMS) + 1
    assert any(line.startswith("key=percent%2520sign%2Fslash%3Acolon exp=-1 ") for line in lines)


def test_what_memcached_tool_dumps_fills_another_server(server, client, memcached_tool, start_server, connect):
    dump = memcached_tool(server, "dump")
    other = start_server()
    assert raw(other, dump + b"cas\r\n", b"line format\r\n").count(b"STORED") == len(ITEMS) + 1
    copy = connect(other, allow_unicode_keys=True)
    for key, (_, value) in ITEMS.items():
        assert copy.get(key) == value, key
    assert copy.get(b"mortal") == b"soon"
    said = memcached_tool(other, "keys").decode()
    for flags, _ in ITEMS.values():
        assert f" flags={flags} " in said
    assert re.search(r"^key=mortal exp=\d+ ", said, re.MULTILINE)


@pytest.mark.parametrize("protocol", [[], ["--binary"]], ids=["text", "packets"])
def test_libmemcached_tools_do_what_they_are_for(server, client, libmemcached, tmp_path, protocol):
    def tool(name, *words, status=0):
        return libmemcached(server, name, *protocol, *words, status=status)

    assert f"curr_items: {len(ITEMS) + 1}" in tool("memcstat")
    assert "maxconns: 1024" in tool("memcstat", "settings")
    assert tool("memccat", "plain") == "value\n"
    tool("memccat", "missing", status=1)
    tool("memcexist", "plain")
    tool("memcexist", "missing", status=1)
    tool("memctouch", "--expire=1000", "plain")
    tool("memctouch", "--expire=1000", "missing", status=1)
    tool("memcrm", "plain")
    assert client.get(b"plain") is None
    tool("memcrm", "plain", status=1)
    file = tmp_path / "copied"
    file.write_bytes(b"from a file")
    tool("memccp", "--replace", file, status=1)
    tool("memccp", "--flags=7", "--expire=1000", file)
    tool("memccp", "--add", file, status=1)
    assert client.get(b"copied") == b"from a file"
    assert raw(server, b"get copied\r\n", b"END\r\n").startswith(b"VALUE copied 7 11\r\n")
    tool("memcflush")
    assert client.get(b"copied") is None


def test_memcping_finds_the_server(server, libmemcached):
    # It has no protocol but text, and neither has memcdump.
    libmemcached(server, "memcping")


@pytest.mark.parametrize("protocol", [[], ["--binary"]], ids=["text", "packets"])
def test_memcslap_loads_and_reads(server, client, libmemcached, protocol):
    before = stats(server)
    load = ["--initial-load=500", "--execute-number=300", "--concurrency=3"]
    libmemcached(server, "memcslap", *protocol, "--test=mget", *load)
    libmemcached(server, "memcslap", *protocol, "--test=set", *load)
    after = stats(server)
    grown = {name: int(after[name]) - int(before[name]) for name in ("get_hits", "get_misses", "cmd_set")}
    assert grown["get_hits"] >= 300 and grown["cmd_set"] >= 300 and grown["get_misses"] == 0, grown


def test_memcdump_lists_every_key(server, connect, libmemcached):
    client = connect(server)
    keys = {f"key:{number}" for number in range(20_000)}
    client.set_many({key: b"v" for key in keys}, noreply=True)
    assert client.get("key:19999") == b"v"
    assert sorted(libmemcached(server, "memcdump").splitlines()) == sorted(keys)


def test_libmemcached_tools_log_in(guarded, libmemcached, tmp_path):
    file = tmp_path / "copied"
    file.write_bytes(b"from a file")
    ann = ["--binary", "--username=ann", "--password=sesame"]
    libmemcached(guarded, "memccp", *ann, file)
    assert libmemcached(guarded, "memccat", *ann, "copied") == "from a file\n"
    libmemcached(guarded, "memccat", "--binary", "--username=ann", "--password=wrong", "copied", status=1)
    libmemcached(guarded, "memccat", "--binary", "copied", status=1)
    assert "curr_items: 1" in libmemcached(guarded, "memcstat", *ann)
    libmemcached(guarded, "memcrm", *ann, "copied")
    libmemcached(guarded, "memccat", *ann, "copied", status=1)


def memccapable(program, server, protocol):
    """What it says of the server."""
    tool = program("memccapable", "libmemcached-tools")
    command = [tool, "-h", server.host, "-p", str(server.port), protocol]
    # Standard error, where the failures are told, between the names.
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=RUN_SECONDS_MAX
    )
    return done.stdout.decode()


def test_memccapable_finds_the_text_protocol_complete(server, program):
    said = memccapable(program, server, "-a")
    # Both want an error for words behind the key of a delete, which memcached ignores since 1.6.40.
    assert "2 of 27 tests failed" in said and said.count("[pass]") == 25, said
    assert not re.search(r"^ascii delete( noreply)? +\[pass\]", said, re.MULTILINE), said


def test_memccapable_finds_the_binary_protocol_complete(server, program):
    said = memccapable(program, server, "-b")
    assert said.endswith("All tests passed\n") and said.count("[pass]") == 27, said


# What prometheus/memcached_exporter reads (pkg/exporter/exporter.go); storage outside of memory left out.
EXPORTER_STATS = """
    uptime time version rusage_user rusage_system bytes_read bytes_written curr_connections total_connections
    rejected_connections conn_yields listen_disabled_num accepting_conns limit_maxbytes bytes curr_items total_items
    evictions reclaimed cmd_set cmd_flush cas_badval cas_hits cas_misses get_hits get_misses delete_hits
    delete_misses incr_hits incr_misses decr_hits decr_misses touch_hits touch_misses store_too_large
    store_no_memory lru_crawler_starts direct_reclaims crawler_reclaimed crawler_items_checked moves_to_cold
    moves_to_warm moves_within_lru
""".split()
EXPORTER_SLABS = """
    chunk_size chunks_per_page total_pages total_chunks used_chunks free_chunks free_chunks_end get_hits cmd_set
    delete_hits incr_hits decr_hits cas_hits cas_badval touch_hits
""".split()
EXPORTER_ITEMS = """
    number number_hot number_warm number_cold age age_hot age_warm mem_requested evicted evicted_nonzero
    evicted_time outofmemory tailrepairs reclaimed expired_unfetched evicted_unfetched evicted_active
    crawler_reclaimed crawler_items_checked lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru
    direct_reclaims hits_to_hot hits_to_warm hits_to_cold hits_to_temp
""".split()
EXPORTER_SETTINGS = """
    maxconns lru_crawler lru_crawler_sleep lru_crawler_tocrawl lru_maintainer_thread hot_lru_pct warm_lru_pct
    hot_max_factor warm_max_factor
""".split()
# What phpMemcachedAdmin computes its pages from, beside the above.
PHP_ADMIN_STATS = """
    pid threads pointer_size curr_connections connection_structures cmd_get cmd_set cmd_touch get_hits get_misses
    limit_maxbytes bytes evictions reclaimed expired_unfetched evicted_unfetched hash_bytes hash_power_level
""".split()


def test_a_prometheus_exporter_finds_all_it_reads(server, client):
    numbers = stats(server)
    for name in EXPORTER_STATS:
        if name != "version":
            float(numbers[name])
    slabs, items, settings = stats(server, "slabs"), stats(server, "items"), stats(server, "settings")
    assert [int(slabs[f"1:{name}"]) >= 0 for name in EXPORTER_SLABS]
    assert [int(items[f"items:1:{name}"]) >= 0 for name in EXPORTER_ITEMS]
    assert all(name in settings for name in EXPORTER_SETTINGS)
    assert int(slabs["total_malloced"]) > 600_000


def test_php_memcached_admin_finds_all_it_reads_and_divides_by_nothing(server, client):
    numbers, slabs, items = stats(server), stats(server, "slabs"), stats(server, "items")
    assert all(name in numbers for name in PHP_ADMIN_STATS)
    classes = {name.split(":")[0] for name in slabs if ":" in name}
    assert classes == {"1"} and int(slabs["active_slabs"]) == 1
    assert all(int(slabs[f"1:{name}"]) > 0 for name in ("chunk_size", "chunks_per_page", "total_pages"))
    used, free, total = (int(slabs[f"1:{name}_chunks"]) for name in ("used", "free", "total"))
    assert used == int(items["items:1:number"]) == int(numbers["curr_items"])
    assert used + free == total
    # It lists keys with a cachedump of each class.
    listed = raw(server, b"stats cachedump 1 100\r\n", b"END\r\n")
    assert listed.count(b"ITEM ") == len(ITEMS) + 1
    assert b"ITEM plain [5 b; 0 s]\r\n" in listed
