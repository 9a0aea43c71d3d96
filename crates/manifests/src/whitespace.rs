//! The text between the values of a document: space, comments, anchors and tags.

/// The position after space, line breaks and comments.
pub(super) fn skip(text: &str, mut at: usize) -> usize {
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if !trimmed.starts_with('#') {
            return at;
        }
        at += trimmed.find('\n').unwrap_or(trimmed.len());
    }
}

/// The start of the value whose indicator ends at `at`: after anchor and tag.
pub(super) fn after_properties(text: &str, mut at: usize) -> usize {
    loop {
        at = skip(text, at);
        match property(&text[at..]) {
            Some(property) => at += property.len(),
            None => return at,
        }
    }
}

/// The anchor of a value, such as `&name`. `between` is the text between its key and the value.
pub(super) fn anchor(between: &str) -> Option<&str> {
    let mut at = skip(between, 0);
    while let Some(property) = property(&between[at..]) {
        if property.starts_with('&') {
            return Some(property);
        }
        at = skip(between, at + property.len());
    }
    None
}

/// The anchor or tag at the start of the text.
fn property(text: &str) -> Option<&str> {
    let end = text.find([' ', '\t', '\r', '\n', ',', '[', ']', '{', '}']).unwrap_or(text.len());
    text.starts_with(['&', '!']).then_some(&text[..end])
}

/// The first line, with its line break.
pub(super) fn first_line(text: &str) -> &str {
    &text[..text.find('\n').map_or(text.len(), |line_break| line_break + 1)]
}

/// The start of the line of `at`.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |line_break| line_break + 1)
}

/// The indentation of the line of `at`.
pub(super) fn indentation(text: &str, at: usize) -> &str {
    let line = &text[line_start(text, at)..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// The length of the lines of a block scalar in `text`, which may end in empty lines and in the indentation of
/// another line. With `keep`, empty lines are part of it.
pub(super) fn block_scalar_length(text: &str, keep: bool) -> usize {
    let last = line_start(text, text.len());
    let mut length = if text[last..].trim().is_empty() { last } else { text.len() };
    if keep {
        return length;
    }
    let lines = || text.split_inclusive('\n');
    let indentation =
        lines().find(|line| !line.trim().is_empty()).map_or(0, |line| indentation(line, 0).len());
    while length > 0 {
        let start = line_start(text, length - 1);
        let line = text[start..length].trim_end_matches(['\r', '\n']);
        if line.len() > indentation || !line.trim().is_empty() {
            break;
        }
        length = start;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_scalar_ends_with_its_last_line() {
        for (text, clipped, kept) in [
            ("  x\n", 4, 4),
            ("  x\n\n  ", 4, 5),
            ("  x\r\n\r\n", 5, 7),
            ("  x\n   \n", 8, 8),
            ("  x\n \n", 4, 6),
            ("  x", 3, 3),
            ("\n\n", 0, 2),
            ("", 0, 0),
        ] {
            assert_eq!(block_scalar_length(text, false), clipped, "{text:?}");
            assert_eq!(block_scalar_length(text, true), kept, "{text:?}");
        }
    }

    #[test]
    fn a_value_starts_after_its_anchor_and_tag() {
        assert_eq!(after_properties("a: &x !!str # c\n  b", 2), 18);
        assert_eq!(after_properties("a: b", 2), 3);
        assert_eq!(anchor(" !!map &x-1\n"), Some("&x-1"));
        assert_eq!(anchor(" # &x\n"), None);
    }
}
