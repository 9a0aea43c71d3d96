//! Generated parts of pages.

/// `text` with `content` between the comments that mark `place`; `None` if it has no such comments.
pub fn replaced(text: &str, place: &str, content: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {place} -->\n"), "<!-- end -->");
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{}\n\n{end}{after}", content.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_text_replaces_its_section() {
        let text = "# T\n<!-- a -->\nold\n<!-- end -->\nmiddle\n<!-- b -->\n<!-- end -->\n";
        let text = replaced(text, "a", "| 1 |\n").unwrap();
        assert_eq!(text, "# T\n<!-- a -->\n\n| 1 |\n\n<!-- end -->\nmiddle\n<!-- b -->\n<!-- end -->\n");
        assert_eq!(replaced(&text, "a", "| 1 |").as_ref(), Some(&text));
        assert_eq!(replaced(&text, "c", "| 1 |"), None);
    }
}
