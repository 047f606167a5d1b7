//! Source text as words and signs. Comments, strings and characters are left out.

/// Words whole, `::` as one, every other sign by itself.
pub fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let (now, next) = (chars[at], chars.get(at + 1).copied().unwrap_or(' '));
        at = match now {
            '/' if next == '/' => find(&chars, at, '\n'),
            '/' if next == '*' => after_comment(&chars, at),
            '"' => after_string(&chars, at),
            '\'' => after_quote(&chars, at),
            _ if now.is_alphanumeric() || now == '_' => {
                let end =
                    (at..chars.len()).find(|end| !(chars[*end].is_alphanumeric() || chars[*end] == '_'));
                let end = end.unwrap_or(chars.len());
                let word: String = chars[at..end].iter().collect();
                match raw_string(&chars, &word, end) {
                    Some(end) => end,
                    None => {
                        found.push(word);
                        end
                    }
                }
            }
            ':' if next == ':' => {
                found.push("::".to_owned());
                at + 2
            }
            _ => {
                if !now.is_whitespace() {
                    found.push(now.to_string());
                }
                at + 1
            }
        };
    }
    found
}

fn find(chars: &[char], from: usize, wanted: char) -> usize {
    (from..chars.len()).find(|at| chars[*at] == wanted).unwrap_or(chars.len())
}

fn after_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (at, depth) = (at + 2, depth + 1),
            ('*', '/') => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn after_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Behind a character, or behind the sign of a lifetime.
fn after_quote(chars: &[char], start: usize) -> usize {
    match (chars.get(start + 1), chars.get(start + 2)) {
        (Some('\\'), _) => find(chars, start + 3, '\'') + 1,
        (Some(_), Some('\'')) => start + 3,
        _ => start + 1,
    }
}

/// The end of a raw string that begins with `word`, if one does.
fn raw_string(chars: &[char], word: &str, from: usize) -> Option<usize> {
    if !["r", "br", "cr"].contains(&word) {
        return None;
    }
    let hashes = chars[from..].iter().take_while(|c| **c == '#').count();
    if chars.get(from + hashes) != Some(&'"') {
        return None;
    }
    let is_end =
        |at: &usize| chars[*at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    (from + hashes + 1..chars.len()).find(is_end).map(|at| at + 1 + hashes)
}

/// Without what is compiled for tests alone.
pub fn without_tests(tokens: &[String]) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at..].iter().take(MARK.len()).map(String::as_str).eq(MARK) {
            at = after_item(tokens, at + MARK.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Behind the item that begins here, with its attributes.
fn after_item(tokens: &[String], start: usize) -> usize {
    let mut at = start;
    while tokens.get(at).is_some_and(|token| token == "#") {
        at = after_group(tokens, at + 1);
    }
    let ends_with_semicolon = tokens[at..]
        .iter()
        .find(|token| !["pub", "unsafe"].contains(&token.as_str()))
        .is_some_and(|token| ["use", "const", "static", "type", "let"].contains(&token.as_str()));
    while at < tokens.len() {
        match tokens[at].as_str() {
            ";" => return at + 1,
            "{" if !ends_with_semicolon => return after_group(tokens, at),
            "(" | "[" | "{" => at = after_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Behind the bracket that closes the one that is opened here.
pub fn after_group(tokens: &[String], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < tokens.len() {
        match tokens[at].as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}
