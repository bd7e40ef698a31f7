//! What users of the crate `memcache` do, which speaks the binary protocol unless it is asked not to:
//! `memcache-scenarios SCENARIO HOST:PORT`. test_memcache_crate.py runs each.

use std::collections::HashMap;
use std::env;
use std::thread;
use std::time::Duration;

use memcache::{Client, CommandError, MemcacheError};

type Outcome = Result<(), MemcacheError>;

const SCENARIOS: &[(&str, fn(&Client, &str) -> Outcome)] = &[
    ("values_of_each_kind", values_of_each_kind),
    ("conditions", conditions),
    ("many_at_once", many_at_once),
    ("changes_made_meanwhile", changes_made_meanwhile),
    ("counters", counters),
    ("after_its_second_an_item_is_missing", after_its_second_an_item_is_missing),
    ("what_operators_ask", what_operators_ask),
    ("both_protocols", both_protocols),
    ("logging_in", logging_in),
];

fn main() -> Outcome {
    let arguments: Vec<_> = env::args().collect();
    let [_, name, address] = &arguments[..] else { panic!("SCENARIO HOST:PORT, not {arguments:?}") };
    let (_, scenario) = SCENARIOS.iter().find(|(known, _)| known == name).expect("a scenario of this file");
    scenario(&connect(address, "")?, address)?;
    println!("{name} is through");
    Ok(())
}

fn connect(address: &str, parameters: &str) -> Result<Client, MemcacheError> {
    // It tries again and again until this is over, what the server says of the password notwithstanding.
    let pool = Client::builder().with_connection_timeout(Duration::from_secs(2));
    pool.add_server(format!("memcache://{address}?timeout=10{parameters}"))?.build()
}

#[track_caller]
fn check_refused<T>(outcome: Result<T, MemcacheError>, expected: CommandError) {
    match outcome {
        Err(MemcacheError::CommandError(error)) => assert_eq!(error, expected),
        Err(error) => panic!("{error} instead of {expected}"),
        Ok(_) => panic!("done instead of {expected}"),
    }
}

fn values_of_each_kind(client: &Client, _: &str) -> Outcome {
    client.set("text", "Ünï\r\nEND\r\n", 60)?;
    assert_eq!(client.get("text")?, Some("Ünï\r\nEND\r\n".to_owned()));
    client.set("number", -42, 60)?;
    assert_eq!(client.get("number")?, Some(-42));
    client.set("is", true, 60)?;
    assert_eq!(client.get("is")?, Some(true));
    client.set("empty", "", 60)?;
    assert_eq!(client.get("empty")?, Some(String::new()));
    let large: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    client.set("large", &large[..], 60)?;
    let (value, flags, cas): (Vec<u8>, u32, Option<u64>) = client.get("large")?.expect("it was just stored");
    assert!(value == large);
    assert!(flags == 0 && cas.is_some_and(|id| id > 0), "{flags} {cas:?}");
    assert_eq!(client.get::<String>("nothing")?, None);

    let too_large = vec![0; 1_100_000];
    check_refused(client.set("large", &too_large[..], 60), CommandError::ValueTooLarge);
    assert_eq!(client.get::<Vec<u8>>("large")?, None);
    client.set("large", "small", 60)?;
    assert_eq!(client.get("large")?, Some("small".to_owned()));
    Ok(())
}

fn conditions(client: &Client, _: &str) -> Outcome {
    check_refused(client.replace("key", "replaced", 60), CommandError::KeyNotFound);
    client.add("key", "added", 60)?;
    check_refused(client.add("key", "again", 60), CommandError::KeyExists);
    client.replace("key", "replaced", 60)?;
    client.append("key", " end")?;
    client.prepend("key", "start ")?;
    assert_eq!(client.get("key")?, Some("start replaced end".to_owned()));
    assert!(client.append("nothing", "x").is_err());
    assert!(client.delete("key")?);
    assert!(!client.delete("key")?);
    assert_eq!(client.get::<String>("key")?, None);
    Ok(())
}

fn many_at_once(client: &Client, _: &str) -> Outcome {
    let expected: HashMap<_, _> =
        (0..500).map(|number| (format!("key{number}"), format!("value {number}"))).collect();
    for (key, value) in &expected {
        client.set(key, value, 60)?;
    }
    let mut keys: Vec<_> = expected.keys().map(String::as_str).collect();
    keys.insert(250, "nothing");
    assert_eq!(client.gets::<String>(&keys)?, expected);
    assert_eq!(client.gets::<String>(&["nothing", "neither"])?, HashMap::new());
    Ok(())
}

fn changes_made_meanwhile(client: &Client, address: &str) -> Outcome {
    client.set("page", "draft", 60)?;
    let found: HashMap<String, (String, u32, Option<u64>)> = client.gets(&["page"])?;
    let id = found["page"].2.expect("packets bring it");
    connect(address, "")?.set("page", "theirs", 60)?;
    assert!(!client.cas("page", "mine", 60, id)?);
    let (page, _, id): (String, u32, Option<u64>) = client.get("page")?.expect("they stored it");
    assert_eq!(page, "theirs");
    let id = id.expect("packets bring it");
    assert!(client.cas("page", "mine", 60, id)?);
    assert_eq!(client.get("page")?, Some("mine".to_owned()));
    assert!(!client.cas("nothing", "x", 60, id)?);
    Ok(())
}

fn counters(client: &Client, _: &str) -> Outcome {
    // What is not there begins at 0.
    assert_eq!(client.increment("visits", 5)?, 0);
    assert_eq!(client.increment("visits", 5)?, 5);
    assert_eq!(client.decrement("visits", 2)?, 3);
    assert_eq!(client.decrement("visits", 100)?, 0);
    client.set("largest", u64::MAX, 60)?;
    assert_eq!(client.increment("largest", 1)?, 0);
    client.set("word", "forty", 60)?;
    assert!(client.increment("word", 1).is_err());
    assert_eq!(client.get("word")?, Some("forty".to_owned()));
    let threads: Vec<_> = (0..5).map(|_| client.clone()).collect();
    thread::scope(|scope| {
        for client in &threads {
            scope.spawn(|| (0..100).for_each(|_| assert!(client.increment("visits", 1).is_ok())));
        }
    });
    assert_eq!(client.get("visits")?, Some(500));
    Ok(())
}

fn after_its_second_an_item_is_missing(client: &Client, _: &str) -> Outcome {
    for _ in 0..3 {
        client.set("brief", "x", 1)?;
        client.set("touched", "x", 0)?;
        client.set("lasting", "x", 60)?;
        assert!(client.touch("touched", 1)?);
        assert_eq!(client.gets::<String>(&["brief", "touched", "lasting"])?.len(), 3);
        thread::sleep(Duration::from_secs(1));
        assert_eq!(client.get::<String>("brief")?, None);
        assert_eq!(client.gets::<String>(&["brief", "touched", "lasting"])?.len(), 1);
        assert!(!client.touch("brief", 60)?);
    }
    Ok(())
}

fn what_operators_ask(client: &Client, _: &str) -> Outcome {
    client.set("key", "x", 60)?;
    let stats = &client.stats()?[0].1;
    assert_eq!([&stats["curr_items"], &stats["cmd_set"]], ["1", "1"]);
    assert!(client.version()?[0].1.starts_with(|first: char| first.is_ascii_digit()));
    client.flush_with_delay(60)?;
    assert_eq!(client.get("key")?, Some("x".to_owned()));
    client.flush()?;
    assert_eq!(client.get::<String>("key")?, None);
    Ok(())
}

fn both_protocols(client: &Client, address: &str) -> Outcome {
    let in_text = connect(address, "&protocol=ascii")?;
    in_text.set("key", "text", 60)?;
    assert_eq!(client.get("key")?, Some("text".to_owned()));
    client.set("key", "packet", 60)?;
    assert_eq!(in_text.get("key")?, Some("packet".to_owned()));
    Ok(())
}

fn logging_in(stranger: &Client, address: &str) -> Outcome {
    check_refused(stranger.set("key", "of a stranger", 60), CommandError::AuthenticationRequired);
    let ann = connect(&format!("ann:sesame@{address}"), "")?;
    ann.set("key", "x", 60)?;
    assert_eq!(ann.get("key")?, Some("x".to_owned()));
    assert!(connect(&format!("ann:wrong@{address}"), "").is_err());
    Ok(())
}
