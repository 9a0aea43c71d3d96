//! The prose of a Rust source: comments, string literals and function names.

/// The source with everything else blanked, so that lines keep their numbers. Function names are split at underscores,
/// and escapes in strings are blank. Strings such as `kubelet-certificate-authority` are keys, not prose.
pub fn prose(source: &str) -> String {
    let mut prose = String::with_capacity(source.len());
    let mut rest = source;
    let mut is_name = false;
    while let Some(first) = rest.chars().next() {
        let (length, kind) = token(rest, first);
        let (token, after) = rest.split_at(length);
        match kind {
            Kind::Prose => prose.push_str(token),
            Kind::Text if is_key(token) => push_blank(token, &mut prose),
            Kind::Text => push_text(token, &mut prose),
            Kind::Word if is_name => prose.push_str(&token.replace('_', " ")),
            Kind::Word | Kind::Other => push_blank(token, &mut prose),
        }
        is_name = if kind == Kind::Word { token == "fn" } else { is_name && first == ' ' };
        rest = after;
    }
    prose
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A comment or a raw string.
    Prose,
    /// A string with escapes.
    Text,
    /// An identifier, a keyword or a number.
    Word,
    /// Anything else, such as punctuation.
    Other,
}

/// The length and the kind of the first token. A literal that isn't closed extends to the end.
fn token(source: &str, first: char) -> (usize, Kind) {
    let end = |length: Option<usize>| length.unwrap_or(source.len());
    if source.starts_with("//") {
        return (end(source.find('\n')), Kind::Prose);
    }
    if source.starts_with("/*") {
        return (end(source.find("*/").map(|at| at + 2)), Kind::Prose);
    }
    if let Some(length) = raw_string(source) {
        return (length, Kind::Prose);
    }
    match first {
        '"' => (end(quoted(source, '"')), Kind::Text),
        // A character, unless it is a lifetime.
        '\'' if source[1..].starts_with('\\') || source.chars().nth(2) == Some('\'') => {
            (end(quoted(source, '\'')), Kind::Other)
        }
        _ if is_word(first) => (end(source.find(|character| !is_word(character))), Kind::Word),
        _ => (first.len_utf8(), Kind::Other),
    }
}

/// The length of a raw string.
fn raw_string(source: &str) -> Option<usize> {
    let raw = source.strip_prefix('b').unwrap_or(source).strip_prefix('r')?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let content = raw[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = content.find(&close).map(|at| source.len() - content.len() + at + close.len());
    Some(end.unwrap_or(source.len()))
}

/// The length of a literal in quotes, of which the first character is one.
fn quoted(source: &str, quote: char) -> Option<usize> {
    let mut characters = source.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return Some(at + 1);
        }
        if character == '\\' {
            characters.next();
        }
    }
    None
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether a string is the name of a flag, a file or a field.
fn is_key(token: &str) -> bool {
    !token.contains(char::is_whitespace) && token.contains(['-', '.', '/', '_'])
}

fn push_text(token: &str, prose: &mut String) {
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            prose.push(' ');
            prose.push(if characters.next() == Some('\n') { '\n' } else { ' ' });
        } else {
            prose.push(character);
        }
    }
}

fn push_blank(token: &str, prose: &mut String) {
    prose.extend(token.chars().map(|character| if character == '\n' { '\n' } else { ' ' }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_function_names_are_prose() {
        for (source, expected) in [
            ("let at = 1; // once\nfn at_once() {}", "once at once"),
            ("/// Docs.\n/* a\n\"b\" */ c", "Docs a b"),
            (r#"f("a\"b\\", 'c', '"', "d")"#, "a b d"),
            (r##"g(br#"a"b"#, r"c\", b"d", 'e')"##, "br a b r c d"),
            ("fn a<'b>(c: &'b str) -> &'static str { 'd: loop {} }", "a"),
            ("let a = '\\''; \"b\nis not closed", "b is not closed"),
            ("\"a \\\n b\"", "a b"),
            ("f(\"a-b\", \"c/d.e\", \"f g-h\")", "f g h"),
        ] {
            let prose = prose(source);
            assert_eq!(prose.lines().count(), source.lines().count(), "{source}");
            let words: Vec<_> =
                prose.split(|character| !is_word(character)).filter(|word| !word.is_empty()).collect();
            assert_eq!(words.join(" "), expected, "{source}");
        }
    }
}
