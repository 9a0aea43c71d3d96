//! Words that are not used.

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::{Finding, texts::Text};

/// docs/words.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    words: Vec<Entry>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// A regular expression over whole words, without case.
    not: String,
    /// What to write instead.
    write: String,
}

/// The words, and what to write instead.
pub struct Words(Vec<(Regex, String)>);

impl Words {
    pub fn new(file: &File) -> Result<Self, regex::Error> {
        let compiled = |Entry { not, write }: Entry| -> Result<_, regex::Error> {
            let pattern = format!(r"\b(?:{not})\b");
            Ok((RegexBuilder::new(&pattern).case_insensitive(true).unicode(false).build()?, write))
        };
        file.words.iter().cloned().map(compiled).collect::<Result<_, _>>().map(Self)
    }

    /// The words in a text, in its order.
    pub fn find(&self, text: &Text) -> Vec<Finding> {
        let of_line = |(line, content): (usize, &str)| {
            let found = self.0.iter().flat_map(move |(pattern, write)| {
                pattern.find_iter(content).map(move |found| (found.start(), found.as_str(), write))
            });
            let mut found: Vec<_> = found.collect();
            found.sort_unstable();
            let finding = |(_, word, write): (usize, &str, &String)| Finding {
                file: text.name.clone(),
                line,
                word: word.to_owned(),
                write: write.clone(),
            };
            found.into_iter().map(finding).collect::<Vec<_>>()
        };
        text.lines().flat_map(of_line).collect()
    }
}
