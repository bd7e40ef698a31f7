<?php
// What users of PHP's class Memcached do: `php php_scenarios.php SCENARIO HOST:PORT`. test_php.py runs each.
declare(strict_types=1);

const PACKETS = [Memcached::OPT_BINARY_PROTOCOL => true, Memcached::OPT_TCP_NODELAY => true];

function same($expected, $found): void
{
    if ($expected !== $found) {
        throw new Exception("expected " . var_export($expected, true) . ", found " . var_export($found, true));
    }
}

function connect(string $address, array $options = PACKETS): Memcached
{
    [$host, $port] = explode(":", $address);
    $client = new Memcached();
    same(true, $client->setOptions($options));
    same(true, $client->addServer($host, (int) $port));
    return $client;
}

/** That the last call ended with this code. */
function ended(Memcached $client, int $code): void
{
    same([$code, true], [$client->getResultCode(), $client->getResultMessage() !== ""]);
}

function values_of_each_kind(Memcached $client): void
{
    $page = ["title" => "Ünï", "rows" => [1, 2.5, null, true]];
    $noise = implode("", array_map("md5", range(1, 20000), array_fill(0, 20000, true)));
    $lines = "two\r\nlines\r\nEND\r\n";
    foreach (["text", "", $lines, 42, 2.5, true, false, $page, str_repeat("x", 3000000), $noise] as $value) {
        same(true, $client->set("value", $value, 60));
        same($value, $client->get("value"));
    }
    same(true, $client->set("value", null));
    same(null, $client->get("value"));
    ended($client, Memcached::RES_SUCCESS);
    same(false, $client->get("nothing"));
    ended($client, Memcached::RES_NOTFOUND);
    same("made", $client->get("made", function ($client, $key, &$value, &$expiration) {
        $value = $key;
        $expiration = 60;
        return true;
    }));
    same("made", $client->get("made"));
}

function what_is_too_large_is_refused(Memcached $client): void
{
    same(true, $client->set("value", "old"));
    same(false, $client->set("value", random_bytes(1100000)));
    ended($client, Memcached::RES_E2BIG);
    same(true, $client->set("value", "new"));
    same("new", $client->get("value"));
}

function conditions(Memcached $client): void
{
    same(false, $client->replace("key", "replaced"));
    same(true, $client->add("key", "added"));
    same(false, $client->add("key", "again"));
    same("added", $client->get("key"));
    same(true, $client->replace("key", "replaced"));
    // Who compresses may not append.
    $client->setOption(Memcached::OPT_COMPRESSION, false);
    same(false, $client->append("nothing", "x"));
    same([true, true], [$client->append("key", " end"), $client->prepend("key", "start ")]);
    same("start replaced end", $client->get("key"));
    same([true, false], [$client->delete("key"), $client->delete("key")]);
    ended($client, Memcached::RES_NOTFOUND);
}

function many_at_once(Memcached $client): void
{
    $values = [];
    foreach (range(0, 999) as $number) {
        $values["key$number"] = "value $number";
    }
    same(true, $client->setMulti($values, 60));
    $found = $client->getMulti([...array_keys($values), "nothing"], Memcached::GET_PRESERVE_ORDER);
    same([...$values, "nothing" => null], $found);
    same(true, $client->getDelayed(["key1", "nothing", "key3"], true));
    $all = $client->fetchAll();
    same(["key1", "key3"], array_column($all, "key"));
    same(["value 1", "value 3"], array_column($all, "value"));
    same(["key1" => true, "nothing" => Memcached::RES_NOTFOUND], $client->deleteMulti(["key1", "nothing"]));
    same(["key2" => "value 2"], $client->getMulti(["key1", "key2"]));
}

function changes_made_meanwhile(Memcached $client, string $address): void
{
    $client->set("page", "draft");
    $found = $client->get("page", null, Memcached::GET_EXTENDED);
    same("draft", $found["value"]);
    same(true, connect($address)->set("page", "theirs"));
    same(false, $client->cas($found["cas"], "page", "mine"));
    ended($client, Memcached::RES_DATA_EXISTS);
    $found = $client->getMulti(["page"], Memcached::GET_EXTENDED)["page"];
    same("theirs", $found["value"]);
    same(true, $client->cas($found["cas"], "page", "mine"));
    same("mine", $client->get("page"));
    same(false, $client->cas($found["cas"], "nothing", "x"));
}

function counters(Memcached $client): void
{
    same([false, false], [$client->increment("visits"), $client->get("visits")]);
    same(100, $client->increment("visits", 5, 100, 60));
    same([105, 106], [$client->increment("visits", 5, 100), $client->increment("visits")]);
    same(99, $client->decrement("visits", 7));
    same(0, $client->decrement("visits", 1000));
    same(7, $client->decrement("brief", 1, 7, 1));
    sleep(1);
    same(false, $client->get("brief"));
    $client->set("word", "forty");
    same(false, $client->increment("word", 1, 5));
    same("forty", $client->get("word"));
}

function after_its_second_an_item_is_missing(Memcached $client): void
{
    foreach ([1, 2, 3] as $_) {
        same(true, $client->set("brief", "x", 1));
        same([true, true], [$client->set("touched", "x"), $client->touch("touched", 1)]);
        same(["brief" => "x", "touched" => "x"], $client->getMulti(["brief", "touched"]));
        sleep(1);
        same([false, []], [$client->get("brief"), $client->getMulti(["brief", "touched"])]);
        same(false, $client->touch("brief", 60));
    }
}

function writes_that_wait_for_no_answer(Memcached $client, string $address): void
{
    // Not with OPT_BUFFER_WRITES: on a busy machine the library aborts now and then, with memcached as well.
    $hurried = connect($address, PACKETS + [Memcached::OPT_NOREPLY => true]);
    foreach (range(0, 999) as $number) {
        $hurried->set("key$number", $number);
    }
    same(999, $hurried->get("key999"));
    same(array_combine(array_map(fn ($number) => "key$number", range(0, 999)), range(0, 999)),
        $client->getMulti(array_map(fn ($number) => "key$number", range(0, 999))));
}

function what_operators_ask(Memcached $client, string $address): void
{
    $client->set("key", "x");
    $stats = $client->getStats()[$address];
    same([1, 1], [$stats["curr_items"], $stats["cmd_set"]]);
    same(1024, (int) $client->getStats("settings")[$address]["maxconns"]);
    same(1, preg_match('/^\d+\.\d+\.\d+/', $client->getVersion()[$address]));
    same(true, $client->flush());
    same(false, $client->get("key"));
}

function logging_in(Memcached $client, string $address): void
{
    same(false, $client->set("key", "of a stranger"));
    $ann = connect($address);
    same(true, $ann->setSaslAuthData("ann", "sesame"));
    same([true, "x"], [$ann->set("key", "x"), $ann->get("key")]);
    $liar = connect($address);
    $liar->setSaslAuthData("ann", "wrong");
    same([false, false], [$liar->set("key", "of a liar"), $liar->get("key")]);
    same("x", $ann->get("key"));
}

[, $scenario, $address] = $argv;
$scenario(connect($address), $address);
echo "$scenario is through\n";
