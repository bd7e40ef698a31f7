//! The manual as one page for man(1): Markdown made into roff, as far as the topics use it.
//!
//! A table becomes a list, a row each, for terminals are too narrow for columns of sentences.

use std::fmt::Write as _;

use super::{TOPICS, is_comment};

/// The page, as the manual page of a server of this `version`.
pub fn man_page(version: &str) -> String {
    let mut page = format!(
        ".TH FERROCACHED 1 \"\" \"ferrocached {version}\" \"User Commands\"\n.ad l\n.nh\n\
         .SH NAME\nferrocached \\- a cache server that takes memcached's place\n\
         .SH SYNOPSIS\n.B ferrocached\n[OPTION]...\n\
         .SH DESCRIPTION\n\
         A cache server with memcached's port, protocol, options, statistics and files. What follows is the manual, a\n\
         section for each topic;\n.B ferrocached \\-\\-manual TOPIC\nshows one of them.\n"
    );
    for topic in TOPICS {
        convert(topic.text, &mut page);
    }
    page
}

fn convert(markdown: &str, page: &mut String) {
    let mut lines = markdown.lines().filter(|line| !is_comment(line)).peekable();
    while let Some(line) = lines.next() {
        let mut more_while = |belongs: fn(&str) -> bool| {
            std::iter::from_fn(|| lines.next_if(|line| belongs(line))).collect::<Vec<&str>>()
        };
        if line.is_empty() {
            continue;
        } else if line.starts_with("```") {
            code(&more_while(|line| line != "```"), page);
            more_while(|line| line == "```");
        } else if line.starts_with('#') {
            heading(line, page);
        } else if line.starts_with('|') {
            table(line, &more_while(|line| line.starts_with('|')), page);
        } else if let Some((marker, first)) = item(line) {
            let rest = more_while(|line| line.starts_with("  ")).join(" ");
            let _ = writeln!(page, ".IP {marker} 3\n{}", inline(&format!("{first} {}", rest.trim())));
        } else {
            let rest = more_while(|line| !line.is_empty() && !begins_a_block(line)).join(" ");
            let _ = writeln!(page, ".PP\n{}", inline(&format!("{line} {rest}")));
        }
    }
}

/// Whether a line cannot go on with a paragraph.
fn begins_a_block(line: &str) -> bool {
    line.starts_with(['#', '|']) || line.starts_with("```") || item(line).is_some()
}

/// The marker, as roff has it, and the words of a line that begins an item of a list.
fn item(line: &str) -> Option<(String, &str)> {
    if let Some(words) = line.strip_prefix("- ") {
        return Some(("\\(bu".to_owned(), words));
    }
    let (number, words) = line.split_once(". ")?;
    number.parse::<u8>().ok().map(|number| (format!("{number}."), words))
}

fn heading(line: &str, page: &mut String) {
    let words = line.trim_start_matches('#');
    let _ = match line.len() - words.len() {
        1 => writeln!(page, ".SH {}", inline(&words.trim().to_uppercase())),
        2 => writeln!(page, ".SS {}", inline(words.trim())),
        _ => writeln!(page, ".PP\n\\fB{}\\fR", inline(words.trim())),
    };
}

fn code(lines: &[&str], page: &mut String) {
    page.push_str(".PP\n.RS 4\n.nf\n");
    for line in lines {
        page.push_str(if line.starts_with(['.', '\'']) { "\\&" } else { "" });
        line.chars().for_each(|letter| literal(letter, page));
        page.push('\n');
    }
    page.push_str(".fi\n.RE\n");
}

/// A row becomes its first cell, and the others below it, each behind its heading if there are several.
fn table(head: &str, rows: &[&str], page: &mut String) {
    let head = cells(head);
    // The first of them only draws the line below the head.
    for row in rows.iter().skip(1).map(|row| cells(row)) {
        let Some((first, others)) = row.split_first() else { continue };
        if others.iter().all(String::is_empty) {
            let _ = writeln!(page, ".PP\n{}", inline(first));
            continue;
        }
        let _ = writeln!(page, ".TP\n{}", inline(first));
        let told = others.iter().zip(&head[1..]).filter(|(cell, _)| !cell.is_empty());
        for (nth, (cell, heading)) in told.enumerate() {
            page.push_str(if nth > 0 { ".br\n" } else { "" });
            let _ = match others.len() {
                1 => writeln!(page, "{}", inline(cell)),
                _ => writeln!(page, "{}", inline(&format!("*{heading}:* {cell}"))),
            };
        }
    }
}

/// What stands between the bars of a row.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|');
    let row = row.strip_suffix('|').unwrap_or(row).replace("\\|", "\0");
    row.split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}

/// Words with the marks of Markdown made into those of roff: code and what is bold in bold, links as their words.
fn inline(text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    let (mut is_code, mut is_bold, mut is_italic) = (false, false, false);
    let mut rest = text.trim();
    if rest.starts_with(['.', '\'']) {
        said.push_str("\\&");
    }
    while let Some(letter) = rest.chars().next() {
        let mut taken = letter.len_utf8();
        match letter {
            '`' => {
                is_code = !is_code;
                said.push_str(font(is_code || is_bold, is_italic));
            }
            _ if is_code => literal(letter, &mut said),
            '*' if rest.starts_with("**") => {
                is_bold = !is_bold;
                said.push_str(font(is_bold, is_italic));
                taken = 2;
            }
            '*' => {
                is_italic = !is_italic;
                said.push_str(font(is_bold, is_italic));
            }
            '[' | ']' => match link_end(rest) {
                Some(end) => taken = end,
                None if letter == '[' && is_link(rest) => {}
                None => literal(letter, &mut said),
            },
            '-' => said.push('-'),
            '\'' => said.push('\''),
            _ => literal(letter, &mut said),
        }
        rest = &rest[taken..];
    }
    said
}

fn font(is_bold: bool, is_italic: bool) -> &'static str {
    match (is_bold, is_italic) {
        (true, _) => "\\fB",
        (false, true) => "\\fI",
        (false, false) => "\\fR",
    }
}

/// Whether `text` begins with `[words](target)`.
fn is_link(text: &str) -> bool {
    text.find(']').is_some_and(|end| text[end + 1..].starts_with('('))
}

/// The length of `](target)` at the head of `text`.
fn link_end(text: &str) -> Option<usize> {
    text.starts_with("](").then(|| text.find(')').map(|end| end + 1))?
}

/// A character that is to be shown as it is.
fn literal(letter: char, page: &mut String) {
    match letter {
        '\\' => page.push_str("\\e"),
        '-' => page.push_str("\\-"),
        '\'' => page.push_str("\\(aq"),
        '`' => page.push_str("\\(ga"),
        '^' => page.push_str("\\(ha"),
        '~' => page.push_str("\\(ti"),
        // Long lists of words may be broken there.
        '|' => page.push_str("|\\:"),
        ' '..='~' => page.push(letter),
        _ => {
            let _ = write!(page, "\\[u{:04X}]", u32::from(letter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(markdown: &str, roff: &str) {
        let mut page = String::new();
        convert(markdown, &mut page);
        assert_eq!(page, roff, "{markdown}");
    }

    #[test]
    fn paragraphs_headings_and_lists() {
        check("# Who\n\n## May\n\none\ntwo\n\nthree\n", ".SH WHO\n.SS May\n.PP\none two\n.PP\nthree\n");
        check("- one\n  two\n- three\n", ".IP \\(bu 3\none two\n.IP \\(bu 3\nthree\n");
        check("1. one\n2. two\n", ".IP 1. 3\none\n.IP 2. 3\ntwo\n");
        check("<!-- a -->\n.one\n<!-- /a -->\n", ".PP\n\\&.one\n");
    }

    #[test]
    fn code_is_shown_as_it_is() {
        check(
            "```sh\n.a -b \\c 'd'\n\n# e\n```\nf\n",
            ".PP\n.RS 4\n.nf\n\\&.a \\-b \\ec \\(aqd\\(aq\n\n# e\n.fi\n.RE\n.PP\nf\n",
        );
    }

    #[test]
    fn words_keep_their_weight_and_lose_their_links() {
        check(
            "a `-b *c*` **d** [e `f`](g.md#h) [i] µ",
            ".PP\na \\fB\\-b *c*\\fR \\fBd\\fR e \\fBf\\fR [i] \\[u00B5]\n",
        );
    }

    #[test]
    fn a_table_is_a_list() {
        check("| a | b |\n|---|---|\n| `c\\|d` | e |\n", ".TP\n\\fBc|\\:d\\fR\ne\n");
        check(
            "| a | b | c |\n|---|---|---|\n| **d** | | |\n| e | f | g |\n",
            ".PP\n\\fBd\\fR\n.TP\ne\n\\fIb:\\fR f\n.br\n\\fIc:\\fR g\n",
        );
    }
}
