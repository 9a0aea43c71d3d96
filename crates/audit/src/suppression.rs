//! Findings that an annotation suppresses.

use std::collections::BTreeMap;

use adieu_core::api::annotations::AUDIT_IGNORE;

use crate::Rule;

/// The reason for which findings of a rule are suppressed.
pub(crate) fn reason(annotations: &BTreeMap<String, String>, rule: Rule) -> Option<&str> {
    entries(annotations).find_map(|entry| match parse(entry) {
        Ok((suppressed, reason)) if suppressed == rule => Some(reason),
        _ => None,
    })
}

/// Why entries suppress nothing.
pub(crate) fn invalid(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    entries(annotations).filter_map(|entry| parse(entry).err())
}

/// One in each line, or separated by semicolons.
fn entries(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let text = annotations.get(AUDIT_IGNORE).map(String::as_str).unwrap_or_default();
    text.split(['\n', ';']).map(str::trim).filter(|entry| !entry.is_empty())
}

/// `RULE: reason`.
fn parse(entry: &str) -> Result<(Rule, &str), String> {
    let (name, reason) = entry.split_once(':').unwrap_or((entry, ""));
    let rule = name
        .trim()
        .parse()
        .map_err(|()| format!("{name:?} is not a rule: `adieu audit --rules` lists them"))?;
    match reason.trim() {
        "" => Err(format!("{rule} has no reason: write \"{rule}: why\"")),
        reason => Ok((rule, reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_with_a_reason_is_suppressed() {
        let text = "no-pdb: one is enough; two-pdbs\nno-such-rule: because\n shell-as-pid-1 : a test: only";
        let annotations = BTreeMap::from([(AUDIT_IGNORE.to_owned(), text.to_owned())]);
        assert_eq!(reason(&annotations, Rule::NoPdb), Some("one is enough"));
        assert_eq!(reason(&annotations, Rule::ShellAsPid1), Some("a test: only"));
        assert_eq!(reason(&annotations, Rule::TwoPdbs), None);
        let invalid: Vec<_> = invalid(&annotations).collect();
        assert_eq!(
            invalid,
            [
                "two-pdbs has no reason: write \"two-pdbs: why\"",
                "\"no-such-rule\" is not a rule: `adieu audit --rules` lists them"
            ]
        );
    }
}
