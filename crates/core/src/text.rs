//! Texts for people: a number with its noun, and the limits of texts of any length.

use std::borrow::Cow;

const ELLIPSIS: char = '…';

/// A number with its noun, of which the plural ends in "s": `1 workload`, `2 workloads`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A text of at most `max` characters; the last is an ellipsis if the text was longer.
#[must_use]
pub fn truncate_chars(text: &str, max: usize) -> Cow<'_, str> {
    let Some((end, _)) = text.char_indices().nth(max.saturating_sub(1)) else { return text.into() };
    if text[end..].chars().nth(1).is_none() {
        return text.into();
    }
    format!("{}{ELLIPSIS}", &text[..end]).into()
}

/// Truncates a text to at most `max` bytes, of which the last are an ellipsis if it was longer.
pub fn truncate_bytes(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max.saturating_sub(ELLIPSIS.len_utf8())));
        text.push(ELLIPSIS);
        text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_their_noun() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "pod")), ["0 pods", "1 pod", "2 pods"]);
    }

    #[test]
    fn a_longer_text_ends_with_an_ellipsis() {
        for (text, chars, bytes) in
            [("", "", ""), ("abcd", "abcd", "abcd"), ("abcdé", "abc…", "a…"), ("üüüü", "üüüü", "…")]
        {
            assert_eq!(truncate_chars(text, 4), chars);
            let mut truncated = text.to_owned();
            truncate_bytes(&mut truncated, 4);
            assert_eq!(truncated, bytes);
        }
    }
}
