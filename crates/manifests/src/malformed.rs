//! Text that can't be read as YAML, and what to change in it.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

/// Text that isn't YAML, or YAML that Kubernetes can't read.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{message}")]
pub(super) struct Malformed {
    /// The line, from 0.
    pub(super) line: usize,
    /// The column, from 0, if the parser stopped there.
    pub(super) column: Option<usize>,
    pub(super) message: String,
}

impl Malformed {
    pub(super) fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, column: None, message: message.into() }
    }
}

impl From<&ScanError> for Malformed {
    fn from(error: &ScanError) -> Self {
        let (mark, rule) = (error.marker(), error.kind());
        let message = match remedy(rule) {
            Some(remedy) => format!("{rule}: {remedy}"),
            None => rule.to_string(),
        };
        Self { line: mark.line().saturating_sub(1), column: Some(mark.col()), message }
    }
}

/// What to change in text that the parser rejects. kubectl reads some of it nevertheless: comments right after a value, and
/// lines in brackets that begin with tabs.
fn remedy(rule: &ErrorKind) -> Option<&'static str> {
    match rule {
        ErrorKind::CommentNotSeparated => Some("put a space before the #"),
        ErrorKind::TabInBlockIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => Some("begin the line with spaces instead of tabs, also in brackets"),
        ErrorKind::ExpectedBlockMappingKey => {
            Some("indent the keys of a mapping by the same number of spaces")
        }
        ErrorKind::MappingValueNotAllowed => Some(
            "put a value that contains a colon and a space in quotes, and indent the keys of a mapping by the same \
             number of spaces",
        ),
        ErrorKind::UnexpectedCharacter { character: '@' | '`' | '%' }
        | ErrorKind::PlainScalarStartsWithDashFlowIndicator => Some("put the value in quotes"),
        ErrorKind::UnexpectedCharacter { .. } => {
            Some("remove it, or write it as an escape sequence in double quotes")
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar => {
            Some("put the whole value in quotes, and write a quote in it as ''")
        }
        ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            Some("put the whole value in quotes, and write a quote in it as \\\"")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::Manifests;

    #[test]
    fn text_that_can_not_be_read_is_an_error_with_line_column_rule_and_remedy() {
        for (text, place, rule, remedy) in [
            ("a: \"b\"#c\n", "line 1, column 7", "comments must be separated", "put a space before the #"),
            ("a:\n- [1]#c\n", "line 2, column 6", "comments must be separated", "put a space before the #"),
            ("a: |#c\n  b\n", "line 1, column 5", "comments must be separated", "put a space before the #"),
            ("a:\n  b: {\n\tc: 1\n  }\n", "line 3, column 2", "tabs disallowed", "spaces instead of tabs"),
            ("a:\n\tb: 1\n", "line 2, column 2", "tabs disallowed", "spaces instead of tabs"),
            ("a: |\n\tb\n", "line 1, ", "cannot start with a tab", "spaces instead of tabs"),
            ("a: b\n\tc\n", "line 1, ", "found a tab", "spaces instead of tabs"),
            ("a:\n   b: 1\n  c: 1\n", "line 3, ", "did not find expected key", "same number of spaces"),
            ("a: b: c\n", "line 1, column 5", "mapping values are not allowed", "in quotes"),
            ("a: @b\n", "line 1, column 4", "unexpected character: `@'", "put the value in quotes"),
            ("a: [-]\n", "line 1, column 5", "cannot start with '-'", "put the value in quotes"),
            ("a: \u{1}\n", "line 1, ", "unexpected character: `\\u{1}'", "escape sequence"),
            ("a: 'it's'\n", "line 1, column 8", "invalid trailing content", "write a quote in it as ''"),
            ("a: \"b\" c\n", "line 1, column 8", "invalid trailing content", "write a quote in it as \\\""),
        ] {
            let error = Manifests::parse("x.yaml", text).unwrap_err().to_string();
            let message = error.strip_prefix("x.yaml, document 1, ").unwrap();
            let (found, message) = message.split_once(": ").unwrap();
            assert!(found.starts_with(place), "{text:?}: {error}");
            let (found, advice) = message.rsplit_once(": ").unwrap();
            assert!(found.contains(rule) && advice.contains(remedy), "{text:?}: {error}");
        }
    }
}
