// What users of node's client `memjs` do, which has no protocol but the binary one: `node memjs_scenarios.js SCENARIO
// HOST:PORT`. test_node.py runs each.
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { setTimeout: sleep } = require("node:timers/promises");
const { promisify } = require("node:util");
const memjs = require("memjs");

const KEYS = Array.from({ length: 500 }, (_, index) => `key${index}`);
const complaints = [];

function connect(address, options) {
  const logger = { log: (words) => complaints.push(words) };
  return memjs.Client.create(address, { retries: 1, timeout: 10, logger, ...options });
}

/** The value as text, or null. */
async function text(client, key) {
  const { value } = await client.get(key);
  return value && value.toString();
}

const scenarios = {};

scenarios.cache_aside = async (client) => {
  const asked = [];
  const user = async (number) => {
    const found = await text(client, `user:${number}`);
    if (found !== null) return JSON.parse(found);
    asked.push(number);
    const user = { id: number, name: `Ünï ${number}` };
    assert.equal(await client.set(`user:${number}`, JSON.stringify(user), { expires: 60 }), true);
    return user;
  };
  for (const number of [7, 8, 7, 8]) assert.deepEqual(await user(number), { id: number, name: `Ünï ${number}` });
  assert.deepEqual(asked, [7, 8]);
  assert.equal(await client.delete("user:7"), true);
  assert.equal(await client.delete("user:7"), false);
  await user(7);
  assert.deepEqual(asked, [7, 8, 7]);
};

scenarios.values_of_each_kind = async (client) => {
  const binary = Buffer.from(Array.from({ length: 256 * 2000 }, (_, index) => index % 256));
  for (const value of ["text", "", "two\r\nlines\r\nEND\r\n", "Ünï", binary]) {
    assert.equal(await client.set("value", value), true);
    const found = await client.get("value");
    assert.deepEqual(found.value, Buffer.from(value));
    assert.deepEqual(found.flags, Buffer.alloc(4));
  }
  await assert.rejects(client.set("value", Buffer.alloc(1100000)), /Value too large/);
  await assert.rejects(client.set("k".repeat(251), "x"), /Invalid arguments/);
};

scenarios.conditions = async (client) => {
  assert.equal(await client.replace("key", "replaced"), false);
  assert.equal(await client.add("key", "added"), true);
  assert.equal(await client.add("key", "again"), false);
  assert.equal(await client.replace("key", "replaced"), true);
  assert.equal(await client.append("key", " end"), true);
  // Its prepend sends what appends, too.
  assert.equal(await text(client, "key"), "replaced end");
  await assert.rejects(client.append("nothing", "x"), /not stored/i);
};

scenarios.many_at_once = async (client) => {
  const stored = await Promise.all(KEYS.map((key) => client.set(key, `value of ${key}`)));
  assert.ok(stored.every((is) => is === true));
  const found = await Promise.all([...KEYS, "nothing"].map((key) => text(client, key)));
  assert.deepEqual(found, [...KEYS.map((key) => `value of ${key}`), null]);
};

scenarios.counters = async (client) => {
  assert.deepEqual(await client.increment("visits", 5, { initial: 100, expires: 60 }), { success: true, value: 100 });
  await Promise.all(KEYS.map(() => client.increment("visits", 2)));
  assert.deepEqual(await client.decrement("visits", 50, {}), { success: true, value: 1050 });
  assert.deepEqual(await client.decrement("visits", 9999, {}), { success: true, value: 0 });
  await client.set("word", "forty");
  await assert.rejects(client.increment("word", 1), /non-numeric/);
  assert.equal(await text(client, "word"), "forty");
};

scenarios.after_its_second_an_item_is_missing = async (client) => {
  for (let round = 0; round < 3; round += 1) {
    await client.set("brief", "x", { expires: 1 });
    await client.set("touched", "x");
    await client.set("lasting", "x", { expires: 60 });
    assert.equal(await client.touch("touched", 1), true);
    await client.increment("visits", 1, { initial: 7, expires: 1 });
    assert.equal((await client.increment("visits", 1, { initial: 7, expires: 1 })).value, 8);
    assert.deepEqual([await text(client, "brief"), await text(client, "touched")], ["x", "x"]);
    await sleep(1000);
    for (const key of ["brief", "touched", "visits"]) assert.equal(await text(client, key), null);
    assert.equal(await text(client, "lasting"), "x");
    assert.equal(await client.touch("brief", 60), false);
  }
};

scenarios.what_operators_ask = async (client, address) => {
  await client.set("key", "x");
  const ask = promisify((key, tell) =>
    client.statsWithKey(key, (error, server, stats) => tell(error, { server, stats })),
  );
  const { server, stats } = await ask("");
  assert.deepEqual([server, stats.curr_items, stats.cmd_set], [address, "1", "1"]);
  assert.equal((await ask("settings")).stats.maxconns, "1024");
  assert.deepEqual((await ask("reset")).stats, {});
  assert.equal((await ask("")).stats.cmd_set, "0");
  assert.deepEqual(await client.flush(), { [address]: true });
  assert.equal(await text(client, "key"), null);
};

scenarios.farewell = async (client) => {
  await client.set("key", "x");
  const ended = once(client.servers[0]._socket, "close");
  client.quit();
  await ended;
  assert.equal(await text(client, "key"), "x");
};

scenarios.logging_in = async (stranger, address) => {
  await assert.rejects(stranger.set("key", "of a stranger"));
  const ann = connect(address, { username: "ann", password: "sesame" });
  assert.equal(await ann.set("key", "x"), true);
  const liar = connect(address, { username: "ann", password: "wrong" });
  await assert.rejects(liar.set("key", "of a liar"), /authentication failed/);
  const named = connect(`ann:sesame@${address}`);
  assert.equal(await text(named, "key"), "x");
  for (const client of [ann, liar, named]) client.close();
};

async function main([name, address]) {
  const client = connect(address);
  await scenarios[name](client, address);
  client.close();
  console.log(`${name} is through`);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error, complaints);
  process.exit(1);
});
