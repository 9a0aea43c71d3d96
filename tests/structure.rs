//! A module of `src` uses only the modules below it, as the table of `src/lib.rs` says. End-to-end tests that run beside
//! each other use only parts that don't affect other tests.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules from the lowest on, each with the modules that it may use.
const MODULES: [(&str, &[&str]); 6] = [
    ("runtime", &[]),
    ("index", &["runtime"]),
    ("webhook", &["index", "runtime"]),
    ("controller", &["index", "runtime"]),
    ("disruption", &["index", "runtime"]),
    ("cli", &["controller", "disruption", "index", "runtime", "webhook"]),
];

/// What the end-to-end tests in `concurrent` may use. Not the operator, nodes, load or figures: by those a test affects
/// others, or is affected by them.
const CONCURRENT: [&str; 8] =
    ["guard", "interoperability", "mutator", "operations", "rejection", "support", "terminations", "uid"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// The modules that follow `crate::`, also in braces.
fn used(source: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (at, _) in source.match_indices("crate::") {
        let path = &source[at + "crate::".len()..];
        let Some(list) = path.strip_prefix('{') else {
            modules.insert(first_word(path));
            continue;
        };
        let (mut depth, mut start) = (0_usize, 0);
        for (position, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' | ',' if depth == 0 => {
                    modules.insert(first_word(list[start..position].trim_start()));
                    start = position + 1;
                }
                '}' => depth -= 1,
                _ => {}
            }
            if character == '}' && start > position {
                break;
            }
        }
    }
    // A list may end with a comma.
    modules.remove("");
    modules
}

fn first_word(path: &str) -> String {
    path.split(|character: char| !character.is_alphanumeric() && character != '_').next().unwrap().to_owned()
}

#[test]
fn modules_use_only_those_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let names: BTreeSet<_> = MODULES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let folders = fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path());
    let folders: BTreeSet<_> = folders
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(folders, names, "a module is missing from the table");

    let mut upwards = Vec::new();
    let mut uses: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (module, allowed) in MODULES {
        let mut found = Vec::new();
        files(&source.join(module), &mut found);
        for file in found {
            let used = used(&fs::read_to_string(&file).unwrap());
            let others = used.iter().filter(|name| *name != module && names.contains(*name));
            let others: BTreeSet<_> = others.cloned().collect();
            upwards.extend(
                others
                    .iter()
                    .filter(|name| !allowed.contains(&name.as_str()))
                    .map(|name| format!("{} uses crate::{name}", file.display())),
            );
            uses.entry(module).or_default().extend(others);
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
    let allowed = |module: &str| MODULES.iter().find(|(name, _)| *name == module).unwrap().1;
    for (module, used) in uses {
        assert_eq!(
            used,
            allowed(module).iter().map(ToString::to_string).collect(),
            "{module}: the table is too wide"
        );
    }
}

#[test]
fn concurrent_end_to_end_tests_use_only_what_affects_no_other_test() {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/concurrent"), &mut found);
    let all = found.iter().flat_map(|file| used(&fs::read_to_string(file).unwrap()));
    assert_eq!(all.collect::<BTreeSet<_>>(), CONCURRENT.map(str::to_owned).into());
}

#[test]
fn modules_are_found_in_every_form_of_an_import() {
    let source = "use crate::{\n    api::{A, b::C},\n    index,\n    plan::{self, D},\n};\nfn f() { crate::runtime::g() }";
    let expected = ["api", "index", "plan", "runtime"].map(str::to_owned).into();
    assert_eq!(used(source), expected);
}
