//! What a file becomes: what nagaya has to say in it, and what the guest has made of it.

use super::{BEGIN, END, GuestFile, MARKER, When};

/// What is to be done about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// It is to hold this.
    Write(String),
    /// It holds what it should.
    Right,
    /// The guest has changed what nagaya had written there: it is the guest's from now on.
    Guests,
}

/// `current` is what the file holds, none where there is none; `last` what nagaya has written there
/// last (of a block: its lines), none where it never has.
pub fn merge(file: &GuestFile, current: Option<&str>, last: Option<&str>) -> Merged {
    let same = |text: &str| current.is_some_and(|current| current.trim_end() == text.trim_end());
    match &file.when {
        When::Always | When::UnlessChanged if same(&file.content) => Merged::Right,
        When::Always => Merged::Write(file.content.clone()),
        When::UnlessChanged => match (current, last) {
            (Some(_), Some(last)) if !same(last) => Merged::Guests,
            _ => Merged::Write(file.content.clone()),
        },
        When::Block { rest, replaces } => {
            let fresh = || whole(&file.content, rest);
            let Some(text) = current.filter(|text| !text.trim().is_empty()) else {
                return if file.content.is_empty() { Merged::Right } else { Merged::Write(fresh()) };
            };
            // As 0.1.0 wrote it.
            if text.lines().next() == Some(MARKER) {
                return Merged::Write(fresh());
            }
            match Parts::of(text) {
                Some(parts) => merge_block(file, &parts, last),
                None if last.is_some() => Merged::Guests,
                None if *replaces => Merged::Write(fresh()),
                None if file.content.is_empty() => Merged::Right,
                None => {
                    let end = if text.ends_with('\n') { "" } else { "\n" };
                    Merged::Write(format!("{text}{end}{}", block(&file.content)))
                }
            }
        }
    }
}

fn merge_block(file: &GuestFile, parts: &Parts<'_>, last: Option<&str>) -> Merged {
    let Parts { before, lines, after } = parts;
    if *lines == file.content {
        return Merged::Right;
    }
    if last.is_some_and(|last| last != *lines) {
        return Merged::Guests;
    }
    Merged::Write(format!("{before}{}{after}", block(&file.content)))
}

/// Whether nothing in a file is the guest's. `last` as above.
pub fn is_ours_alone(text: &str, last: Option<&str>) -> bool {
    if text.lines().next() == Some(MARKER) {
        return true;
    }
    Parts::of(text).is_some_and(|Parts { before, lines, after }| {
        before.trim().is_empty() && after.trim().is_empty() && last.is_none_or(|last| last == lines)
    })
}

/// Whether both marks are in a file.
pub fn has_block(text: &str) -> bool {
    Parts::of(text).is_some()
}

/// The lines of a file that are not nagaya's.
pub fn guest_lines(text: &str) -> impl Iterator<Item = &str> {
    let [before, after] = match Parts::of(text) {
        Some(Parts { before, after, .. }) => [before, after],
        None if text.lines().next() == Some(MARKER) => ["", ""],
        None => [text, ""],
    };
    before.lines().chain(after.lines())
}

/// A file around nagaya's lines.
struct Parts<'a> {
    before: &'a str,
    lines: &'a str,
    after: &'a str,
}

impl<'a> Parts<'a> {
    /// None where the two marks are not both there, each on a line of its own.
    fn of(text: &'a str) -> Option<Self> {
        let (begin, from) = line_of(text, BEGIN, 0)?;
        let (end, behind) = line_of(text, END, from)?;
        Some(Self { before: &text[..begin], lines: &text[from..end], after: &text[behind..] })
    }
}

/// Where the line `mark` begins and where the next one does.
fn line_of(text: &str, mark: &str, from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        if line.trim_end() == mark {
            return Some((at, at + line.len()));
        }
        at += line.len();
    }
    None
}

fn block(lines: &str) -> String {
    if lines.is_empty() { String::new() } else { format!("{BEGIN}\n{lines}{END}\n") }
}

fn whole(lines: &str, rest: &str) -> String {
    format!("{}{rest}", block(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str, when: When) -> GuestFile {
        GuestFile { path: "/etc/x".into(), content: content.into(), mode: 0o644, when }
    }

    fn block_file(content: &str, replaces: bool) -> GuestFile {
        file(content, When::Block { rest: "source d/*\n".into(), replaces })
    }

    fn written(merged: Merged) -> String {
        match merged {
            Merged::Write(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_whole_file_is_the_guests_once_it_has_changed_it() {
        let wanted = file("new\n", When::UnlessChanged);
        for (current, last, what) in [
            (None, None, Merged::Write("new\n".into())),
            (None, Some("old\n"), Merged::Write("new\n".into())),
            // What the tree came with.
            (Some("image\n"), None, Merged::Write("new\n".into())),
            (Some("old\n"), Some("old\n"), Merged::Write("new\n".into())),
            (Some("old"), Some("old\n"), Merged::Write("new\n".into())),
            (Some("mine\n"), Some("old\n"), Merged::Guests),
            (Some("new\n"), Some("old\n"), Merged::Right),
            (Some("new"), None, Merged::Right),
        ] {
            assert_eq!(merge(&wanted, current, last), what, "{current:?} {last:?}");
        }
        let always = file("new\n", When::Always);
        assert_eq!(merge(&always, Some("mine\n"), Some("old\n")), Merged::Write("new\n".into()));
    }

    #[test]
    fn lines_around_a_block_are_the_guests() {
        let first = written(merge(&block_file("a\n", true), Some("image's\n"), None));
        assert_eq!(first, format!("{BEGIN}\na\n{END}\nsource d/*\n"));
        assert_eq!(merge(&block_file("a\n", true), Some(&first), Some("a\n")), Merged::Right);
        let edited = format!("mine\n{first}mine too");
        let second = written(merge(&block_file("b\n", true), Some(&edited), Some("a\n")));
        assert_eq!(second, format!("mine\n{BEGIN}\nb\n{END}\nsource d/*\nmine too"));
        // Nothing is known of what was there: a block is a block.
        assert_eq!(written(merge(&block_file("b\n", true), Some(&edited), None)), second);
    }

    #[test]
    fn a_block_that_the_guest_has_changed_or_taken_away_is_not_written_again() {
        let first = written(merge(&block_file("a\n", true), None, None));
        let changed = first.replace("a\n", "a\nmine\n");
        assert_eq!(merge(&block_file("b\n", true), Some(&changed), Some("a\n")), Merged::Guests);
        for gone in ["mine\n", BEGIN, &format!("{END}\n{BEGIN}\n")] {
            assert_eq!(merge(&block_file("b\n", true), Some(gone), Some("a\n")), Merged::Guests, "{gone}");
            assert_eq!(merge(&block_file("b\n", false), Some(gone), Some("a\n")), Merged::Guests, "{gone}");
        }
        // One that was emptied has no choice in it.
        assert_eq!(written(merge(&block_file("a\n", true), Some(" \n"), Some("a\n"))), first);
    }

    #[test]
    fn a_block_is_put_behind_what_must_stay() {
        let wanted = block_file("127.0.1.1 web\n", false);
        let text = written(merge(&wanted, Some("127.0.0.1 localhost"), None));
        assert_eq!(text, format!("127.0.0.1 localhost\n{BEGIN}\n127.0.1.1 web\n{END}\n"));
        // It goes when there is nothing to say any more.
        let nothing = block_file("", false);
        assert_eq!(written(merge(&nothing, Some(&text), Some("127.0.1.1 web\n"))), "127.0.0.1 localhost\n");
        assert_eq!(merge(&nothing, Some("127.0.0.1 localhost\n"), None), Merged::Right);
    }

    #[test]
    fn a_file_of_an_older_version_is_replaced() {
        let old = format!("{MARKER}\nnameserver 192.0.2.1\n");
        assert!(written(merge(&block_file("a\n", true), Some(&old), None)).starts_with(BEGIN));
        assert!(is_ours_alone(&old, None));
    }

    #[test]
    fn a_file_is_ours_alone_until_the_guest_says_something_in_it() {
        let text = format!("{BEGIN}\na\n{END}\n");
        assert!(is_ours_alone(&text, Some("a\n")) && is_ours_alone(&text, None));
        assert!(!is_ours_alone(&text, Some("b\n")));
        assert!(!is_ours_alone(&format!("{text}mine\n"), Some("a\n")));
        assert!(!is_ours_alone("mine\n", None));
    }
}
