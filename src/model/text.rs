//! Text from guests and files, made harmless to a terminal.

/// Takes control sequences (ECMA-48) and control characters out of a stream; line ends and tabs
/// stay. What it is given may be cut anywhere, also within a character or a sequence.
#[derive(Default)]
pub struct Plain {
    state: State,
    /// The beginning of a UTF-8 character.
    cut: Vec<u8>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate character.
    Intermediate,
    /// Within a control sequence: ESC [.
    Sequence,
    /// Within a string: a window title, for example.
    String,
    /// After ESC within a string.
    StringEscape,
}

impl Plain {
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.cut);
        all.extend_from_slice(bytes);
        let mut out = String::with_capacity(all.len());
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(|c| self.take(c, &mut out));
            let broken = chunk.invalid();
            if chunks.peek().is_none() && is_unfinished(broken) {
                self.cut = broken.to_vec();
            } else if !broken.is_empty() {
                self.take(char::REPLACEMENT_CHARACTER, &mut out);
            }
        }
        out
    }

    fn take(&mut self, c: char, out: &mut String) {
        // A line's end ends every sequence: one left open must not swallow the lines that follow.
        if c == '\n' {
            self.state = State::Text;
        }
        self.state = match (self.state, c) {
            (State::String, '\x1b') => State::StringEscape,
            (State::String, '\x07' | '\x18' | '\x1a' | '\u{9c}') | (State::StringEscape, '\\') => State::Text,
            (State::String, _) => State::String,
            (_, '\x1b') => State::Escape,
            (_, '\u{9b}') | (State::Escape | State::StringEscape, '[') => State::Sequence,
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}')
            | (State::Escape | State::StringEscape, 'P' | 'X' | ']' | '^' | '_') => State::String,
            (State::Escape | State::Intermediate | State::StringEscape, ' '..='/') => State::Intermediate,
            (State::Escape | State::Intermediate | State::StringEscape, '0'..='~') => State::Text,
            (State::Sequence, ' '..='?') => State::Sequence,
            (State::Sequence, '@'..='~') => State::Text,
            _ => {
                if is_harmless(c) {
                    out.push(c);
                }
                State::Text
            }
        };
    }
}

/// One line of untrusted text: what would break it becomes a space.
pub fn line(text: &str) -> String {
    if text.chars().all(|c| is_harmless(c) && !matches!(c, '\n' | '\t')) {
        return text.to_owned();
    }
    Plain::default().push(text.as_bytes()).replace(['\n', '\t'], " ")
}

/// Control characters act on the terminal; those of Unicode's line and direction controls make a
/// line read as something that it is not (CVE-2021-42574).
fn is_harmless(c: char) -> bool {
    match c {
        '\n' | '\t' => true,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        c => !c.is_control(),
    }
}

/// Whether more bytes could make a character of these.
fn is_unfinished(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => false,
        Err(e) => e.error_len().is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        Plain::default().push(text.as_bytes())
    }

    #[test]
    fn sequences_go_and_text_stays() {
        for (given, left) in [
            ("plain \u{e4}\u{1F3EF}\ttext\r\n", "plain \u{e4}\u{1F3EF}\ttext\n"),
            ("\x1b[1;32mok\x1b[0m", "ok"),
            ("\x1b[?2004hx", "x"),
            ("\x1b]0;title\x07x\x1b]0;title\x1b\\y", "xy"),
            ("\x1bPq#0\x1b\\x", "x"),
            ("\x1b(Bx\x1b=y\x1bcz", "xyz"),
            ("\u{9b}31mx\u{9d}0;t\u{9c}y\u{85}", "xy"),
            ("a\x08\x07\x7f\0b", "ab"),
            ("\u{202e}txt\u{2066}\u{2028}", "txt"),
            ("\x1b\x1b[31mx", "x"),
        ] {
            assert_eq!(plain(given), left, "{given:?}");
        }
    }

    #[test]
    fn an_open_sequence_ends_with_its_line() {
        assert_eq!(plain("\x1b]0;never closed\nshown"), "\nshown");
        assert_eq!(plain("\x1b[12\nshown"), "\nshown");
        assert_eq!(plain("\x1b]0;a\x1b\nshown"), "\nshown");
    }

    #[test]
    fn cuts_do_not_matter() {
        let text = "a\x1b[1;32m\u{1F3EF}b\x1b]0;t\x1b\\c\u{e4}\n";
        let mut stream = Plain::default();
        let bytewise: String = text.bytes().map(|b| stream.push(&[b])).collect();
        assert_eq!(bytewise, plain(text));
        assert_eq!(bytewise, "a\u{1F3EF}bc\u{e4}\n");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        assert_eq!(Plain::default().push(b"a\xff\xc3(b"), "a\u{fffd}\u{fffd}(b");
        // 8-bit controls are no UTF-8, but a terminal may still act on them.
        assert_eq!(Plain::default().push(b"\x9b31mx"), "\u{fffd}31mx");
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(line("boot failed\nhint: \x1b[2Jrun this"), "boot failed hint: run this");
        assert_eq!(line("fine"), "fine");
    }
}
