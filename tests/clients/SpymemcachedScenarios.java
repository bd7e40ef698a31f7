// What users of Java's spymemcached do: `java -cp ... SpymemcachedScenarios SCENARIO HOST:PORT`. test_java.py compiles
// it and runs each.

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import net.spy.memcached.AddrUtil;
import net.spy.memcached.BinaryConnectionFactory;
import net.spy.memcached.CASMutation;
import net.spy.memcached.CASMutator;
import net.spy.memcached.CASResponse;
import net.spy.memcached.CASValue;
import net.spy.memcached.ConnectionFactory;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.ConnectionFactoryBuilder.Protocol;
import net.spy.memcached.MemcachedClient;
import net.spy.memcached.auth.AuthDescriptor;
import net.spy.memcached.auth.PlainCallbackHandler;
import net.spy.memcached.transcoders.SerializingTranscoder;

final class SpymemcachedScenarios {
    private static final int SECONDS_MAX = 10;

    private final String address;
    private final MemcachedClient client;

    private SpymemcachedScenarios(String address) throws Exception {
        this.address = address;
        client = connect(new BinaryConnectionFactory());
    }

    public static void main(String[] arguments) {
        try {
            var scenarios = new SpymemcachedScenarios(arguments[1]);
            SpymemcachedScenarios.class.getDeclaredMethod(arguments[0]).invoke(scenarios);
            System.out.println(arguments[0] + " is through");
        } catch (Exception error) {
            error.printStackTrace();
            System.exit(1);
        }
        // The threads of the clients would go on.
        System.exit(0);
    }

    private MemcachedClient connect(ConnectionFactory factory) throws Exception {
        return new MemcachedClient(factory, AddrUtil.getAddresses(address));
    }

    private static void same(Object expected, Object found) {
        if (!Objects.deepEquals(expected, found)) {
            throw new AssertionError("expected " + expected + ", found " + found);
        }
    }

    private static <T> T done(Future<T> future) throws Exception {
        return future.get(SECONDS_MAX, TimeUnit.SECONDS);
    }

    private static Map<String, Object> manyValues() {
        var values = new HashMap<String, Object>();
        for (int number = 0; number < 500; number++) {
            values.put("key" + number, "value " + number);
        }
        return values;
    }

    void values_of_each_kind() throws Exception {
        var noise = new byte[512_000];
        new java.util.Random(5).nextBytes(noise);
        List<Object> page = new ArrayList<>(Arrays.asList("Ünï", 1, 2.5, null));
        var long_text = "x".repeat(3_000_000);
        var lines = "two\r\nlines\r\nEND\r\n";
        for (Object value : new Object[] {"text", "", lines, 42, 1L << 40, 2.5, true, page, noise, long_text}) {
            same(true, done(client.set("value", 60, value)));
            same(value, client.get("value"));
        }
        same(null, client.get("nothing"));
        // The client would not send as much, had it not been told to.
        var transcoder = new SerializingTranscoder(20_000_000);
        same(false, done(client.set("value", 60, new byte[1_100_000], uncompressed(transcoder))));
        same(true, done(client.set("value", 60, "new")));
        same("new", client.get("value"));
    }

    private static SerializingTranscoder uncompressed(SerializingTranscoder transcoder) {
        transcoder.setCompressionThreshold(Integer.MAX_VALUE);
        return transcoder;
    }

    void many_at_once() throws Exception {
        var values = manyValues();
        var futures = new ArrayList<Future<Boolean>>();
        // It sends what waits together, and quietly.
        values.forEach((key, value) -> futures.add(client.set(key, 60, value)));
        for (var future : futures) {
            same(true, done(future));
        }
        var keys = new ArrayList<>(values.keySet());
        keys.add("nothing");
        same(values, done(client.asyncGetBulk(keys)));
        same(values, client.getBulk(keys));
        same(Map.of(), client.getBulk("nothing", "neither"));
        var gets = new ArrayList<Future<Object>>();
        keys.forEach(key -> gets.add(client.asyncGet(key)));
        for (int index = 0; index < keys.size(); index++) {
            same(values.get(keys.get(index)), done(gets.get(index)));
        }
    }

    void conditions() throws Exception {
        same(false, done(client.replace("key", 60, "replaced")));
        same(true, done(client.add("key", 60, "added")));
        same(false, done(client.add("key", 60, "again")));
        same(true, done(client.replace("key", 60, "replaced")));
        same(true, done(client.append("key", " end")));
        same(true, done(client.prepend("key", "start ")));
        same(false, done(client.append("nothing", "x")));
        same("start replaced end", client.get("key"));
        same(true, done(client.delete("key")));
        same(false, done(client.delete("key")));
        same(null, client.get("key"));
    }

    void changes_made_meanwhile() throws Exception {
        done(client.set("page", 60, "draft"));
        CASValue<Object> before = client.gets("page");
        same("draft", before.getValue());
        done(client.set("page", 60, "theirs"));
        same(CASResponse.EXISTS, client.cas("page", before.getCas(), 60, "mine"));
        same(CASResponse.OK, done(client.asyncCAS("page", client.gets("page").getCas(), 60, "mine")));
        same("mine", client.get("page"));
        same(CASResponse.NOT_FOUND, client.cas("nothing", before.getCas(), 60, "x"));
        same(false, done(client.delete("page", before.getCas())));
        same(true, done(client.delete("page", client.gets("page").getCas())));
        // Ten threads count with gets and cas, and none of them loses a step.
        var threads = new ArrayList<Thread>();
        for (int thread = 0; thread < 10; thread++) {
            threads.add(new Thread(this::count));
        }
        threads.forEach(Thread::start);
        for (var thread : threads) {
            thread.join();
        }
        same(100L, client.get("count"));
    }

    private void count() {
        CASMutation<Object> next = current -> (Long) current + 1;
        try {
            var mutator = new CASMutator<>(client, client.getTranscoder());
            for (int step = 0; step < 10; step++) {
                mutator.cas("count", 1L, 60, next);
            }
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    void counters() throws Exception {
        same(-1L, client.incr("visits", 1));
        same(100L, client.incr("visits", 5, 100));
        same(105L, client.incr("visits", 5, 100));
        same(99L, client.decr("visits", 6));
        same(0L, client.decr("visits", 1000));
        same(7L, client.decr("down", 1, 7, 60));
        same(6L, done(client.asyncDecr("down", 1)));
        // In the room of the longest number it was.
        same("0  ", client.get("visits"));
        done(client.set("word", 60, "forty"));
        same(-1L, done(client.asyncIncr("word", 1)));
        same("forty", client.get("word"));
    }

    void after_its_second_an_item_is_missing() throws Exception {
        for (int round = 0; round < 3; round++) {
            done(client.set("brief", 1, "x"));
            done(client.set("touched", 0, "x"));
            done(client.set("lasting", 60, "x"));
            same(true, done(client.touch("touched", 1)));
            same(7L, client.incr("visits", 1, 7, 1));
            done(client.set("got", 0, "x"));
            same("x", client.getAndTouch("got", 1).getValue());
            same(Map.of("brief", "x", "touched", "x", "got", "x"), client.getBulk("brief", "touched", "got"));
            Thread.sleep(1000);
            same(Map.of("lasting", "x"), client.getBulk("brief", "touched", "visits", "got", "lasting"));
            same(false, done(client.touch("brief", 60)));
            same(null, client.getAndTouch("brief", 60));
        }
    }

    void what_operators_ask() throws Exception {
        done(client.set("key", 60, "x"));
        var stats = client.getStats().values().iterator().next();
        same(List.of("1", "1"), List.of(stats.get("curr_items"), stats.get("cmd_set")));
        same("1024", client.getStats("settings").values().iterator().next().get("maxconns"));
        same(true, client.getVersions().values().iterator().next().matches("\\d+\\.\\d+\\.\\d+.*"));
        same(true, done(client.flush()));
        same(null, client.get("key"));
    }

    void logging_in() throws Exception {
        for (var mechanism : List.of("PLAIN", "CRAM-MD5")) {
            var ann = logged_in("ann", "sesame", mechanism);
            same(true, done(ann.set("key", 60, mechanism)));
            same(mechanism, ann.get("key"));
            var liar = logged_in("ann", "wrong", mechanism);
            try {
                same("nothing, but an error", liar.set("key", 60, "of a liar").get(2, TimeUnit.SECONDS));
            } catch (java.util.concurrent.ExecutionException | java.util.concurrent.TimeoutException expected) {
                same(mechanism, ann.get("key"));
            }
            ann.shutdown();
            liar.shutdown();
        }
        // Whatever the server names first.
        var any = connect(binary().setAuthDescriptor(AuthDescriptor.typical("ann", "sesame")).build());
        same("CRAM-MD5", any.get("key"));
        any.shutdown();
    }

    private MemcachedClient logged_in(String user, String password, String mechanism) throws Exception {
        var handler = new PlainCallbackHandler(user, password);
        return connect(binary().setAuthDescriptor(new AuthDescriptor(new String[] {mechanism}, handler)).build());
    }

    private static ConnectionFactoryBuilder binary() {
        return new ConnectionFactoryBuilder().setProtocol(Protocol.BINARY);
    }
}
