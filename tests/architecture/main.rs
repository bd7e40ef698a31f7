//! The house has floors (`src/lib.rs` draws them), and this holds every file under `src/` to its own: what it may
//! use of the crate, which outside crates it may use, and whether it may wait, read clocks, and open files and sockets. It
//! also asks for a look at any file that has grown past what a head can hold.
//!
//! Rule: the text of the files is read, not what the compiler made of it, so a path must be written with the names
//! of its modules to be seen: `crate::store::…`, `super::store::…` or `use crate::{store, …}`.

mod imports;
mod sizes;

use std::path::{Path, PathBuf};

use imports::Imports;

/// The engine's floor: modules above it ask the engine, and not its store.
const STORE_USERS_FLOOR_MAX: u8 = 2;

/// One module at the top of the crate.
struct Module {
    name: &'static str,
    floor: u8,
    /// Whether it may wait, read clocks, and open files and sockets.
    is_worldly: bool,
    /// The outside crates it may use; `std` is always allowed.
    outside: &'static [&'static str],
}

const fn pure(name: &'static str, floor: u8, outside: &'static [&'static str]) -> Module {
    Module { name, floor, is_worldly: false, outside }
}

const fn worldly(name: &'static str, floor: u8, outside: &'static [&'static str]) -> Module {
    Module { name, floor, is_worldly: true, outside }
}

/// The house. Modules of one floor do not know each other.
const MODULES: [Module; 10] = [
    pure("clock", 0, &[]),
    pure("manual", 0, &[]),
    pure("settings", 0, &[]),
    worldly("process", 0, &["nix", "sd_listen_fds", "seccompiler", "thiserror"]),
    worldly("config", 1, &["clap", "thiserror"]),
    pure("protocol", 1, &["arrayvec", "base64", "bytes", "itoa", "memchr"]),
    pure("store", 1, &["bytes", "foldhash", "nix"]), // nix for the mapping of memory only
    pure(
        "engine",
        2,
        &[
            "argon2",
            "arrayvec",
            "base64",
            "bytes",
            "dashmap",
            "hmac",
            "itoa",
            "md5",
            "sha2",
            "subtle",
            "thiserror",
        ],
    ),
    worldly(
        "net",
        3,
        &[
            "bytes",
            "dashmap",
            "http_body_util",
            "hyper",
            "hyper_util",
            "rustls",
            "socket2",
            "thiserror",
            "tokio",
            "tracing",
        ],
    ),
    worldly("lifecycle", 4, &["nix", "thiserror", "tokio", "tracing", "tracing_subscriber"]),
];

#[test]
fn every_file_keeps_to_its_floor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest =
        std::fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml is part of the source");
    let dependencies = dependencies(&manifest);
    let mut complaints = Vec::new();
    for file in files(&root.join("src")) {
        let text = std::fs::read_to_string(&file).expect("sources are UTF-8");
        let path = file.strip_prefix(root.join("src")).expect("it was found there");
        let found = complaints_about(path, &text, &dependencies);
        complaints.extend(found.into_iter().map(|complaint| format!("src/{}: {complaint}", path.display())));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn what_the_engine_and_its_sessions_are_made_of_is_their_own() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine");
    for (file, name) in [("parts.rs", "Engine"), ("turn/session/mod.rs", "Session")] {
        let text = std::fs::read_to_string(src.join(file)).expect("sources are UTF-8");
        let (_, fields) = text.split_once(&format!("pub struct {name} {{\n")).expect("it is there");
        let (fields, _) = fields.split_once("\n}\n").expect("it ends");
        let open: Vec<_> = fields.lines().filter(|line| line.trim_start().starts_with("pub")).collect();
        assert!(open.is_empty(), "{name} has open fields: {open:?}");
    }
}

/// Files that import each other. This list may only shrink, and none of the engine's is longer than two.
const CIRCLES: &[&[&str]] = &[
    &[
        "config",
        "config/documents",
        "config/environment",
        "config/fault",
        "config/given",
        "config/listen",
        "config/options",
        "config/row",
        "config/sources",
        "config/suboptions",
    ],
    &["engine/admin", "engine/admin/debugtime"],
    &["engine/turn/blocking", "engine/turn/session"],
    &["net/shared", "net/slow_clients"],
];

#[test]
fn files_that_import_each_other_become_fewer() {
    let circles = Imports::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).circles();
    let known = |circle: &Vec<String>| {
        CIRCLES.iter().any(|known| circle.iter().all(|file| known.contains(&file.as_str())))
    };
    let new: Vec<_> = circles.iter().filter(|circle| !known(circle)).collect();
    assert!(new.is_empty(), "import each other: {new:?}");
    let gone: Vec<_> =
        CIRCLES.iter().filter(|known| !circles.iter().any(|circle| circle == *known)).collect();
    assert!(gone.is_empty(), "do so no more, or fewer of them; strike them off the list: {gone:?}");
    let engine = CIRCLES.iter().filter(|circle| circle[0].starts_with("engine"));
    assert!(engine.into_iter().all(|circle| circle.len() <= 2));
}

/// All Rust files below `directory`, in order.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("src is part of the source") {
        let path = entry.expect("src can be read").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The names under which the dependencies of a manifest are used.
fn dependencies(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim().replace('-', "_")).collect()
}

fn complaints_about(path: &Path, text: &str, dependencies: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    let first = path.components().next().expect("a file has a name").as_os_str().to_string_lossy();
    let name = first.strip_suffix(".rs").unwrap_or(&first);
    if matches!(name, "main" | "lib") {
        return complaints;
    }
    let Some(module) = MODULES.iter().find(|module| module.name == name) else {
        complaints.push(format!("{name} has no floor; give it one in tests/architecture"));
        return complaints;
    };
    let bare = without_comments_and_literals(text);
    let tokens = tokens(&bare);
    for used in modules_used(&tokens) {
        let Some(other) = MODULES.iter().find(|other| other.name == used) else { continue };
        if other.name != module.name && other.floor >= module.floor {
            complaints.push(format!("floor {} uses {used} on floor {}", module.floor, other.floor));
        }
    }
    for used in crates_used(&tokens, dependencies) {
        if !module.outside.contains(&used) {
            complaints.push(format!("{name} has no use for the crate {used}"));
        }
    }
    if module.floor > STORE_USERS_FLOOR_MAX
        && tokens.windows(4).any(|words| words == [".", "store", "(", ")"])
    {
        complaints.push(format!("{name} reaches into the store; give the engine a verb for it"));
    }
    if !module.is_worldly {
        complaints
            .extend(worldly_deeds(&tokens).into_iter().map(|deed| format!("{deed} is for worldly modules")));
    }
    complaints.sort();
    complaints.dedup();
    complaints
}

/// The modules at the top of the crate that are named in paths.
fn modules_used<'t>(tokens: &[&'t str]) -> Vec<&'t str> {
    let mut used = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match *token {
            "crate" => used.extend(heads(&tokens[index + 1..])),
            // Below the top, `super` is another module; only the names in the table count.
            "super" => used.extend(heads(&tokens[index + 1..])),
            _ => {}
        }
    }
    used
}

/// The names that directly follow in a path: one, or all of a group.
fn heads<'t>(tokens: &[&'t str]) -> Vec<&'t str> {
    if tokens.first() != Some(&"::") {
        return Vec::new();
    }
    if tokens.get(1) != Some(&"{") {
        return tokens.get(1).copied().into_iter().collect();
    }
    let mut heads = Vec::new();
    let mut depth = 0;
    for pair in tokens[1..].windows(2) {
        match pair[0] {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(pair[0], "{" | ",") && pair[1] != "}" {
            heads.push(pair[1]);
        }
    }
    heads
}

/// The dependencies that are named at the beginning of a path.
fn crates_used<'t>(tokens: &[&'t str], dependencies: &[String]) -> Vec<&'t str> {
    let mut used = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| tokens[before]);
        let begins_path = tokens.get(index + 1) == Some(&"::") && before != Some("::");
        let imported = before == Some("use") || before == Some("crate");
        if (begins_path || imported) && dependencies.iter().any(|dependency| dependency == token) {
            used.push(*token);
        }
    }
    used
}

/// What only worldly modules may do, where it is done.
fn worldly_deeds(tokens: &[&str]) -> Vec<String> {
    let mut deeds = Vec::new();
    for index in 0..tokens.len() {
        let rest = &tokens[index..];
        for deed in [&["Instant", "::", "now"][..], &["SystemTime", "::", "now"], &[".", "await"]] {
            if rest.starts_with(deed) {
                deeds.push(deed.concat());
            }
        }
        if rest[0] == "std" {
            let opened = heads(&rest[1..]).into_iter().filter(|head| matches!(*head, "fs" | "net"));
            deeds.extend(opened.map(|head| format!("std::{head}")));
        }
    }
    deeds
}

/// The text with comments and what stands in quotes taken out.
fn without_comments_and_literals(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string_hashes(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = hashes + 2;
            rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len())
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            bare.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        bare.push(' ');
        rest = &rest[skipped..];
    }
    bare
}

/// How many `#` a raw string at the head of `text` begins with, if there is one.
fn raw_string_hashes(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Tells the literal `'a'` from the lifetime `'a`.
fn is_character(text: &str) -> bool {
    let mut characters = text.chars().skip(1);
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

/// The length of the literal at the head of `text`, quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Words, `::`, and everything else by the character.
fn tokens(text: &str) -> Vec<&str> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|character| !is_word(character)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said about a file of this path and text.
    fn check(path: &str, text: &str, expected: &[&str]) {
        let dependencies = ["bytes", "nix", "tokio"].map(str::to_owned);
        assert_eq!(complaints_about(Path::new(path), text, &dependencies), expected, "{path}: {text}");
    }

    #[test]
    fn a_lower_floor_may_be_used_and_an_upper_one_not() {
        check("engine/mod.rs", "use crate::store::Store;\nuse crate::clock::Tick;", &[]);
        check("store/mod.rs", "use crate::engine::Engine;", &["floor 1 uses engine on floor 2"]);
        check("store/a/b.rs", "fn f() { crate::net::g() }", &["floor 1 uses net on floor 3"]);
        check("clock.rs", "use super::store::Store;", &["floor 0 uses store on floor 1"]);
    }

    #[test]
    fn neighbours_do_not_know_each_other() {
        check(
            "store/mod.rs",
            "use crate::{clock::Tick, protocol::{A, B}};",
            &["floor 1 uses protocol on floor 1"],
        );
        check("protocol/mod.rs", "use crate::store;", &["floor 1 uses store on floor 1"]);
        check("process/user.rs", "use crate::clock::Tick;", &["floor 0 uses clock on floor 0"]);
        check("lifecycle.rs", "use crate::config::Config;", &[]);
    }

    #[test]
    fn a_module_uses_itself_freely() {
        check("store/mod.rs", "use crate::store::item::Item;\nuse super::shard::Shard;", &[]);
    }

    #[test]
    fn nobody_above_the_engine_reaches_into_its_store() {
        let complaint = "net reaches into the store; give the engine a verb for it";
        check("net/mod.rs", "fn f() { self.engine.store().flush() }", &[complaint]);
        check("net/mod.rs", "fn f() { counter.store(1, Relaxed) }", &[]);
        check("engine/mod.rs", "fn f() { engine.store().validate() }", &[]);
    }

    #[test]
    fn crates_belong_to_floors() {
        check("net/mod.rs", "use tokio::net::TcpStream;\nfn f() { bytes::Bytes::new() }", &[]);
        check("engine/mod.rs", "use tokio;", &["engine has no use for the crate tokio"]);
        check(
            "protocol/mod.rs",
            "fn f() { nix::unistd::getpid() }",
            &["protocol has no use for the crate nix"],
        );
        check("protocol/mod.rs", "fn f(bytes: usize) -> usize { item.bytes + other::nix::x() }", &[]);
    }

    #[test]
    fn lower_floors_neither_wait_nor_look_at_the_world() {
        check(
            "engine/mod.rs",
            "let now = std::time::Instant::now();",
            &["Instant::now is for worldly modules"],
        );
        check("store/mod.rs", "SystemTime::now()", &["SystemTime::now is for worldly modules"]);
        check("store/mod.rs", "use std::{fmt, fs::File};", &["std::fs is for worldly modules"]);
        check("protocol/mod.rs", "std::net::IpAddr", &["std::net is for worldly modules"]);
        check("engine/mod.rs", "x().await", &[".await is for worldly modules"]);
        check("net/mod.rs", "x().await; Instant::now(); std::fs::read()", &[]);
    }

    #[test]
    fn what_is_only_talked_about_is_not_used() {
        let text = "//! See [`crate::net`].\n/* crate::net */ const A: &str = \"crate::net \\\" .await\";\n\
                    const B: &str = r#\"std::fs \" tokio::x\"#; fn f<'a>(c: char) { c == '\"' || c == '\\'' }";
        check("store/mod.rs", text, &[]);
        check("store/mod.rs", "const C: char = '\"'; use crate::net::X;", &["floor 1 uses net on floor 3"]);
    }

    #[test]
    fn files_of_no_floor_are_noticed() {
        check("attic.rs", "", &["attic has no floor; give it one in tests/architecture"]);
    }

    #[test]
    fn dependencies_are_those_of_the_manifest() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nbytes = \"1\"\ntracing-subscriber = { version = \"0\" }\n\
                        \n[lints]\na = 1\n";
        assert_eq!(dependencies(manifest), ["bytes", "tracing_subscriber"]);
    }
}
