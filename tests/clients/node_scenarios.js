// What users of node's client `memcached` do: `node node_scenarios.js SCENARIO HOST:PORT`. test_node.py runs each.
"use strict";

const assert = require("node:assert/strict");
const { setTimeout: sleep } = require("node:timers/promises");
const { promisify } = require("node:util");
const Memcached = require("memcached");

const CALLS = "add append cas decr del flush get getMulti gets incr prepend replace set settings stats touch version";

function connect(address, options) {
  const client = new Memcached(address, { retries: 0, timeout: 10000, ...options });
  const calls = CALLS.split(" ").map((name) => [name, promisify(client[name].bind(client))]);
  return { ...Object.fromEntries(calls), end: () => client.end() };
}

const scenarios = {};

scenarios.cache_aside = async (client) => {
  const asked = [];
  const user = async (number) => {
    let found = await client.get(`user:${number}`);
    if (found === undefined) {
      asked.push(number);
      found = { id: number, name: `Ünï ${number}` };
      assert.equal(await client.set(`user:${number}`, found, 60), true);
    }
    return found;
  };
  for (const number of [7, 8, 7, 8]) assert.deepEqual(await user(number), { id: number, name: `Ünï ${number}` });
  assert.deepEqual(asked, [7, 8]);
  assert.equal(await client.del("user:7"), true);
  assert.equal(await client.del("user:7"), false);
  await user(7);
  assert.deepEqual(asked, [7, 8, 7]);
};

scenarios.values_of_each_kind = async (client) => {
  const binary = Buffer.from(Array.from({ length: 256 * 2000 }, (_, index) => index % 256));
  for (const value of ["text", "", "two\r\nlines\r\nEND\r\n", 42, { list: [1, 2.5, null] }, binary]) {
    assert.equal(await client.set("value", value, 0), true);
    assert.deepEqual(await client.get("value"), value);
  }
  await assert.rejects(client.set("value", "x".repeat(1048577), 0));
  await assert.rejects(client.add("value", "again", 0), /not stored/);
  await assert.rejects(client.replace("nothing", "x", 0), /not stored/);
  await client.set("text", "middle", 0);
  assert.equal(await client.append("text", " end"), true);
  assert.equal(await client.prepend("text", "start "), true);
  assert.equal(await client.get("text"), "start middle end");
};

scenarios.many_at_once = async (client) => {
  const numbers = Array.from({ length: 300 }, (_, index) => index);
  const expected = Object.fromEntries(numbers.map((number) => [`key${number}`, `value ${number}`]));
  // The client has ten connections, and refuses what finds none of them free.
  while (numbers.length > 0) {
    const some = numbers.splice(-10);
    await Promise.all(some.map((number) => client.set(`key${number}`, `value ${number}`, 60)));
  }
  assert.deepEqual({ ...(await client.getMulti([...Object.keys(expected), "nothing"])) }, expected);
};

scenarios.counters = async (client) => {
  assert.equal(await client.incr("visits", 1), false);
  assert.equal(await client.add("visits", 0, 60), true);
  for (let round = 0; round < 10; round += 1) {
    await Promise.all(Array.from({ length: 10 }, () => client.incr("visits", 2)));
  }
  assert.equal(await client.decr("visits", 50), 150);
  assert.equal(await client.decr("visits", 1000), 0);
  await client.set("word", "forty", 0);
  await assert.rejects(client.incr("word", 1), /non-numeric/);
};

scenarios.changes_made_meanwhile = async (client) => {
  await client.set("page", "draft", 60);
  const { page, cas } = await client.gets("page");
  assert.equal(page, "draft");
  assert.equal(await client.cas("page", "mine", cas, 60), true);
  assert.equal(await client.cas("page", "too late", cas, 60), false);
  assert.equal(await client.get("page"), "mine");
};

scenarios.after_its_second_an_item_is_missing = async (client) => {
  for (let round = 0; round < 3; round += 1) {
    await client.set("brief", "x", 1);
    await client.set("touched", "x", 0);
    assert.equal(await client.touch("touched", 1), true);
    assert.deepEqual({ ...(await client.getMulti(["brief", "touched"])) }, { brief: "x", touched: "x" });
    await sleep(1000);
    assert.equal(await client.get("brief"), undefined);
    assert.equal(await client.get("touched"), undefined);
    assert.equal(await client.touch("brief", 60), false);
  }
};

scenarios.what_operators_ask = async (client, address) => {
  await client.set("key", "x", 0);
  const [stats] = await client.stats();
  assert.deepEqual([stats.server, stats.curr_items, stats.cmd_set], [address, 1, 1]);
  assert.equal((await client.settings())[0].maxconns, 1024);
  assert.match((await client.version())[0].version, /^\d+\.\d+\.\d+/);
  assert.deepEqual(await client.flush(), [true]);
  assert.equal(await client.get("key"), undefined);
};

async function main([name, address]) {
  const client = connect(address);
  await scenarios[name](client, address);
  client.end();
  console.log(`${name} is through`);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
