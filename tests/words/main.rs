//! The words of documents, of the chart, of help texts and of Rust sources, and their spelling.
//!
//! [docs/words.toml](../../docs/words.toml) lists words that they don't use, with the replacement. The spelling is
//! checked with the dictionary of typos; exceptions are in [_typos.toml](../../_typos.toml).

#![allow(clippy::panic, clippy::unwrap_used)]

mod dialect;
mod rust;
mod spelling;
mod texts;

use std::{collections::BTreeMap, fs, path::Path};

use texts::Text;

/// A word that should be another one.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    line: usize,
    word: String,
    write: String,
}

/// A file at the top of the repository, as TOML.
fn toml<T: serde::de::DeserializeOwned>(path: &str) -> T {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    toml::from_str(&fs::read_to_string(&file).unwrap()).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails with one line for each finding.
#[track_caller]
fn assert_none(findings: &[Finding]) {
    let lines: Vec<_> = findings
        .iter()
        .map(|Finding { file, line, word, write }| format!("{file}:{line}: {word:?}: write {write}"))
        .collect();
    assert!(lines.is_empty(), "{} words to replace:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn texts_use_the_words_of_kubernetes() {
    let words = dialect::Words::new(&toml::<dialect::File>("docs/words.toml")).unwrap();
    assert_none(&texts::all().iter().flat_map(|text| words.find(text)).collect::<Vec<_>>());
}

#[test]
fn sources_use_the_words_of_kubernetes() {
    let words = dialect::Words::new(&toml::<dialect::File>("docs/words.toml")).unwrap();
    assert_none(&texts::code().iter().flat_map(|source| words.find(source)).collect::<Vec<_>>());
}

#[test]
fn texts_are_spelled_correctly() {
    let dictionary = spelling::Spelling::new(toml("_typos.toml"));
    assert_none(&texts::all().iter().flat_map(|text| dictionary.find(text)).collect::<Vec<_>>());
}

#[test]
fn sources_are_spelled_correctly() {
    let dictionary = spelling::Spelling::new(toml("_typos.toml"));
    assert_none(&texts::code().iter().flat_map(|source| dictionary.find(source)).collect::<Vec<_>>());
}

#[test]
fn a_word_is_reported_with_its_line_and_replacement() {
    let file: dialect::File = toml::from_str("words = [{not = 'mend(ed)?', write = 'fix'}]").unwrap();
    let text = Text::new("a.md", "Fix it.\n\nMended, recommended, `mend_it`, to mend\n");
    let found = dialect::Words::new(&file).unwrap().find(&text);
    let finding =
        |word: &str| Finding { file: "a.md".into(), line: 3, word: word.into(), write: "fix".into() };
    assert_eq!(found, [finding("Mended"), finding("mend")]);
    assert!(std::panic::catch_unwind(|| assert_none(&found)).is_err());
}

#[test]
fn a_misspelling_is_reported_with_its_line_and_correction() {
    let find = |known: &[&str]| {
        let words: BTreeMap<_, _> =
            known.iter().map(|word| (*word).to_owned()).map(|word| (word.clone(), word)).collect();
        spelling::Spelling::of(words).find(&Text::new("a.md", "correct\nRecieve it, and its receiver\n"))
    };
    let receive = Finding { file: "a.md".into(), line: 2, word: "Recieve".into(), write: "receive".into() };
    assert_eq!(find(&[]), [receive]);
    assert!(find(&["recieve"]).is_empty());
}

#[test]
fn generated_figures_are_skipped() {
    let text = "who\n<!-- figures: scale -->\nwho\n<!-- end -->\nwho\n";
    let lines: Vec<_> = Text::new("a.md", text).lines().map(|(number, _)| number).collect();
    assert_eq!(lines, [1, 5]);
}

#[test]
fn documents_and_help_texts_are_read() {
    let texts = texts::all();
    let names: Vec<_> = texts.iter().map(|text| text.name.as_str()).collect();
    for name in ["SECURITY.md", "docs/rules.md", "charts/adieu/values.yaml", "adieu verify --help"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
}
