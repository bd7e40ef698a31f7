//! How long files and functions may be, tests not counted.

use std::path::Path;

use crate::{files, without_comments_and_literals};

/// A file with more lines than this is to be asked twice what it really is.
const FILE_LINES_MAX: usize = 400;

/// A function with more lines of code than this does more than one thing.
const FUNCTION_LINES_MAX: usize = 60;

/// Files that are longer, and may not grow: how many lines each has at most.
const LONG_FILES: &[(&str, usize)] = &[("engine/watching/watch/mod.rs", 408)];

#[test]
fn files_and_functions_are_short() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut complaints = Vec::new();
    for file in files(&src) {
        let text = std::fs::read_to_string(&file).expect("sources are UTF-8");
        let path = file.strip_prefix(&src).expect("it was found there").display().to_string();
        complaints.extend(complaints_about(&path, &text));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn complaints_about(path: &str, text: &str) -> Vec<String> {
    let code: Vec<_> = text.lines().take_while(|line| *line != "#[cfg(test)]").collect();
    let mut complaints = Vec::new();
    let known = LONG_FILES.iter().find(|(long, _)| *long == path);
    match (known, code.len()) {
        (None, lines @ FILE_LINES_MAX..) if lines > FILE_LINES_MAX => {
            complaints.push(format!("src/{path}: {lines} lines; what is it really?"));
        }
        (Some((_, max)), lines) if lines > *max => {
            complaints.push(format!("src/{path}: has grown from {max} to {lines} lines"));
        }
        (Some((_, max)), lines) if lines < *max => {
            complaints.push(format!("src/{path}: has {lines} lines now; note it, or strike it off the list"));
        }
        _ => {}
    }
    let bare = without_comments_and_literals(&code.join("\n"));
    for (name, lines) in functions(&bare).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX) {
        complaints.push(format!("src/{path}: {name} has {lines} lines"));
    }
    complaints
}

/// The functions of `bare`, and how many lines of code each has, from its first to its last.
fn functions(bare: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = bare.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some((before, after)) = line.split_once("fn ") else { continue };
        let words = ["pub", "const", "async", "unsafe", "extern"];
        let begins = before
            .split_whitespace()
            .all(|word| words.iter().any(|known| word.starts_with(known)) || word.ends_with(')'));
        if !begins || after.starts_with(|first: char| !first.is_alphabetic() && first != '_') {
            continue;
        }
        let name = after.split(|character: char| !character.is_alphanumeric() && character != '_').next();
        let mut depth = 0;
        let end = lines[start..].iter().position(|line| {
            let opens = line.matches('{').count();
            depth += opens;
            depth -= line.matches('}').count().min(depth);
            depth == 0 && (opens > 0 || line.trim_end().ends_with(['}', ';']))
        });
        found.push((name.unwrap_or_default().to_owned(), end.map_or(0, |end| end + 1)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_and_functions_are_noticed() {
        let long = "\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(complaints_about("lib.rs", &long), ["src/lib.rs: 401 lines; what is it really?"]);
        assert!(complaints_about("lib.rs", &format!("\n#[cfg(test)]\n{long}")).is_empty());
        let grown = "\n".repeat(500);
        assert_eq!(complaints_about(LONG_FILES[0].0, &grown).len(), 1);
        let function = |lines: usize| {
            format!(
                "impl A {{\n    pub(crate) fn f(\n        &self,\n    ) {{\n{}    }}\n}}\n",
                "g();\n".repeat(lines - 4)
            )
        };
        assert!(complaints_about("a.rs", &function(FUNCTION_LINES_MAX)).is_empty());
        assert_eq!(complaints_about("a.rs", &function(FUNCTION_LINES_MAX + 1)), ["src/a.rs: f has 61 lines"]);
    }
}
