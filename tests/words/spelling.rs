//! Spelling, by the dictionary of typos: it lists misspellings with their corrections, so words of the field are no
//! findings.

use std::collections::BTreeMap;

use serde::Deserialize;
use typos::{
    Dictionary, Status,
    tokens::{Identifier, Tokenizer, Word},
};
use unicase::UniCase;

use super::{Finding, texts::Text};

/// _typos.toml, as far as it is used here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    default: Settings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// Words with their corrections, in lower case. A word that is corrected to itself is spelled correctly.
    extend_words: BTreeMap<String, String>,
}

/// The dictionary, with our own words.
pub struct Spelling {
    words: BTreeMap<String, String>,
}

impl Spelling {
    pub fn new(file: File) -> Self {
        Self::of(file.default.extend_words)
    }

    pub fn of(words: BTreeMap<String, String>) -> Self {
        Self { words }
    }

    /// The misspellings in a text, in its order.
    pub fn find(&self, text: &Text) -> Vec<Finding> {
        let tokenizer = Tokenizer::new();
        let mut findings = Vec::new();
        for (line, content) in text.lines() {
            findings.extend(typos::check_str(content, &tokenizer, self).map(|typo| {
                let write = match &typo.corrections {
                    Status::Corrections(corrections) => corrections.join(", "),
                    _ => "another word".to_owned(),
                };
                Finding { file: text.name.clone(), line, word: typo.typo.into_owned(), write }
            }));
        }
        findings
    }
}

impl Dictionary for Spelling {
    fn correct_ident<'s>(&'s self, _: Identifier<'_>) -> Option<Status<'s>> {
        None
    }

    fn correct_word<'s>(&'s self, word: Word<'_>) -> Option<Status<'s>> {
        let lower = word.token().to_lowercase();
        if let Some(correction) = self.words.get(&lower) {
            let is_known = *correction == lower;
            return Some(if is_known { Status::Valid } else { Status::Corrections(vec![correction.into()]) });
        }
        let corrections = typos_dict::WORD.find(&UniCase::new(word.token()))?;
        Some(Status::Corrections(corrections.iter().map(|correction| (*correction).into()).collect()))
    }
}
