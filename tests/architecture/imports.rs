//! Which file imports from which, as far as `use` and paths tell, and the circles that this makes.
//!
//! A name is followed through re-exports to the file that has it. Two kinds of imports are left out: of `Engine`, which
//! is what most functions of the engine are methods of, and re-exports themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::{files, tokens, without_comments_and_literals};

/// The one type that all wings of the engine add methods to.
const SHARED: &str = "Engine";

/// The files of the crate, by the paths of their modules.
pub(crate) struct Imports {
    modules: BTreeMap<Vec<String>, File>,
}

struct File {
    /// Paths that are imported or written out, from the top of the crate.
    used: Vec<Vec<String>>,
    /// Names that are re-exported, and what they stand for.
    exports: BTreeMap<String, Vec<String>>,
}

impl Imports {
    /// Those of all files below `src`.
    pub(crate) fn read(src: &Path) -> Imports {
        let mut modules = BTreeMap::new();
        for path in files(src) {
            let relative = path.strip_prefix(src).expect("it was found there").with_extension("");
            let mut module: Vec<_> =
                relative.iter().map(|part| part.to_str().expect("names are ASCII").to_owned()).collect();
            if module.last().is_some_and(|last| last == "mod") {
                module.pop();
            }
            if matches!(module.last().map(String::as_str), Some("lib" | "main" | "tests")) {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
            modules.insert(module.clone(), File::parse(&module, &text));
        }
        Imports { modules }
    }

    /// The groups of more than one file that import each other, around some corners perhaps.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let reached: BTreeMap<_, _> =
            self.modules.keys().map(|module| (module, self.reached(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, there) in &reached {
            let circle: Vec<_> = there.iter().filter(|other| reached[other].contains(*module)).collect();
            if circle.len() > 1 {
                circles.insert(circle.into_iter().map(|module| module.join("/")).collect::<Vec<_>>());
            }
        }
        circles.into_iter().collect()
    }

    /// What `from` imports from, itself or through others.
    fn reached(&self, from: &[String]) -> BTreeSet<Vec<String>> {
        let mut reached = BTreeSet::new();
        let mut left = vec![from.to_vec()];
        while let Some(module) = left.pop() {
            for path in &self.modules[&module].used {
                if let Some(other) = self.home(path).filter(|other| *other != module)
                    && reached.insert(other.clone())
                {
                    left.push(other);
                }
            }
        }
        reached
    }

    /// The module whose file has what `path` names.
    fn home(&self, path: &[String]) -> Option<Vec<String>> {
        if path.last().is_some_and(|name| name == SHARED) {
            return None;
        }
        let depth = (1..=path.len()).rev().find(|&depth| self.modules.contains_key(&path[..depth]))?;
        let module = &path[..depth];
        match path.get(depth).and_then(|name| self.modules[module].exports.get(name)) {
            Some(target) if target.as_slice() != path => self.home(target),
            // A whole module that is imported is used by its functions.
            _ => Some(module.to_vec()),
        }
    }
}

impl File {
    fn parse(module: &[String], text: &str) -> File {
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let bare = without_comments_and_literals(text);
        let tokens = tokens(&bare);
        let mut file = File { used: Vec::new(), exports: BTreeMap::new() };
        let mut index = 0;
        while index < tokens.len() {
            if tokens[index] == "use" && tokens.get(index + 1) != Some(&"<") {
                let end = index + tokens[index..].iter().position(|token| *token == ";").expect("it ends");
                let is_export = index > 0 && matches!(tokens[index - 1], "pub" | ")");
                for path in paths(&tokens[index + 1..end]) {
                    let path = absolute(module, &path);
                    if is_export {
                        file.exports.insert(path.last().expect("a path has a name").clone(), path);
                    } else {
                        file.used.push(path);
                    }
                }
                index = end;
            } else if matches!(tokens[index], "crate" | "super")
                && tokens.get(index + 1) == Some(&"::")
                && tokens[index - 1] != "in"
            {
                let mut path = vec![tokens[index].to_owned()];
                while tokens.get(index + 1) == Some(&"::")
                    && tokens.get(index + 2).is_some_and(|token| token.starts_with(char::is_alphanumeric))
                {
                    path.push(tokens[index + 2].to_owned());
                    index += 2;
                }
                file.used.push(absolute(module, &path));
            }
            index += 1;
        }
        file
    }
}

/// The paths of a `use`, with its groups taken apart.
fn paths(tokens: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut path = Vec::new();
    let mut outer = Vec::new();
    let mut tokens = tokens.iter().peekable();
    while let Some(token) = tokens.next() {
        match *token {
            "{" => outer.push(path.clone()),
            "," | "}" => {
                if outer.last() != Some(&path) && !path.is_empty() {
                    found.push(path.clone());
                }
                path = outer.last().cloned().unwrap_or_default();
                if *token == "}" {
                    outer.pop();
                    // What comes behind a group is a comma or the end.
                    path = outer.last().cloned().unwrap_or_default();
                }
            }
            "::" => {}
            "as" => _ = tokens.next(),
            "self" => found.push(path.clone()),
            name => path.push(name.to_owned()),
        }
    }
    if outer.is_empty() && !path.is_empty() {
        found.push(path);
    }
    found
}

/// `path`, written in `module`, from the top of the crate.
fn absolute(module: &[String], path: &[String]) -> Vec<String> {
    let supers = path.iter().take_while(|name| *name == "super").count();
    if path.first().is_some_and(|name| name == "crate") {
        path[1..].to_vec()
    } else if supers > 0 {
        let above = module.len().saturating_sub(supers);
        module[..above].iter().chain(&path[supers..]).cloned().collect()
    } else {
        module.iter().chain(path).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split("::").map(str::to_owned).collect()
    }

    fn imports(files: &[(&str, &str)]) -> Imports {
        let parse = |(module, text): &(&str, &str)| (path(module), File::parse(&path(module), text));
        Imports { modules: files.iter().map(parse).collect() }
    }

    #[test]
    fn groups_are_taken_apart() {
        let found = |text: &str| paths(&tokens(text)).iter().map(|path| path.join("::")).collect::<Vec<_>>();
        assert_eq!(found("crate::a::B"), ["crate::a::B"]);
        assert_eq!(
            found("crate::a::{self, B, c::{D, E as F}, G}"),
            ["crate::a", "crate::a::B", "crate::a::c::D", "crate::a::c::E", "crate::a::G"]
        );
    }

    #[test]
    fn circles_are_found_around_corners_and_through_re_exports() {
        let of = |files: &[(&str, &str)]| imports(files).circles();
        assert!(of(&[("e::a", "use super::b::B;"), ("e::b", ""), ("e", "")]).is_empty());
        let three = [
            ("e", "mod a; mod b; pub use a::A; pub use c::C;"),
            ("e::a", "use super::b::{self, B};"),
            ("e::b", "fn f(c: &crate::e::C) {}"),
            ("e::c", "use crate::e::{A, Engine};"),
        ];
        assert_eq!(of(&three), [["e/a", "e/b", "e/c"]]);
        assert!(of(&[("e", "use x::X;"), ("e::x", "use crate::e::Engine;")]).is_empty());
    }
}
