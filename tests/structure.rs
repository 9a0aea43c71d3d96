//! A module of `src` uses only the modules below it, as the table of `src/lib.rs` says, and no modules of a crate import
//! each other in a circle. End-to-end tests that run beside each other use only parts that don't affect other tests.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    mem::take,
    path::{Path, PathBuf},
    slice::from_ref,
};

/// The modules from the lowest on, each with the modules that it may use.
const MODULES: [(&str, &[&str]); 7] = [
    ("runtime", &[]),
    ("index", &["runtime"]),
    ("webhook", &["index", "runtime"]),
    ("controller", &["index", "runtime"]),
    ("disruption", &["index", "runtime"]),
    ("canaries", &["disruption", "runtime"]),
    ("cli", &["canaries", "controller", "disruption", "index", "runtime", "webhook"]),
];

/// What the end-to-end tests in `concurrent` may use. Not the operator, nodes, load or figures: by those a test affects
/// others, or is affected by them.
const CONCURRENT: [&str; 10] = [
    "guard",
    "manifests",
    "mutator",
    "operations",
    "rejection",
    "scenarios",
    "support",
    "terminations",
    "uid",
    "verify",
];

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

/// The path of a module in its crate, or of an item, from the root on.
type ModulePath = Vec<String>;

/// The imports of a file, without those of tests.
#[derive(Debug, Default)]
struct Imports {
    /// The modules that it declares.
    children: Vec<String>,
    /// The paths that it uses.
    paths: Vec<ModulePath>,
    /// The imported paths by the names that they have in the file.
    names: BTreeMap<String, ModulePath>,
}

impl Imports {
    fn of(source: &str) -> Self {
        let mut imports = Self::default();
        let mut is_test = false;
        let mut lines = source.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("#[") {
                is_test |= line.starts_with("#[cfg(") && line.contains("test");
                continue;
            }
            let is_test = take(&mut is_test);
            let item = without_visibility(line);
            if let Some(module) = item.strip_prefix("mod ") {
                match module.strip_suffix(';') {
                    Some(child) if !is_test => imports.children.push(child.to_owned()),
                    Some(_) => {}
                    // The paths in an inline module begin there.
                    None => skip_block(&mut lines),
                }
            } else if let Some(start) = item.strip_prefix("use ") {
                let mut tree = start.to_owned();
                while !tree.ends_with(';') {
                    tree.push_str(lines.next().unwrap());
                }
                if !is_test {
                    imports.add_names(tree.trim_end_matches(';'));
                }
            } else if is_test && line.ends_with('{') {
                skip_block(&mut lines);
            } else if !line.trim_start().starts_with("//") {
                imports.add_inline_paths(line);
            }
        }
        imports
    }

    fn add_names(&mut self, tree: &str) {
        for path in expanded(tree) {
            let (path, alias) = path.split_once(" as ").unwrap_or((path.as_str(), ""));
            let mut path = segments(path);
            while path.len() > 1 && path.last().is_some_and(|last| last == "self" || last == "*") {
                path.pop();
            }
            let name = if alias.is_empty() { path[path.len() - 1].clone() } else { alias.to_owned() };
            self.names.insert(name, path.clone());
            self.paths.push(path);
        }
    }

    /// Adds the paths in code that begin at the root or at the module above.
    fn add_inline_paths(&mut self, line: &str) {
        let is_of_path = |character: char| character.is_alphanumeric() || "_:".contains(character);
        for start in ["crate::", "super::"] {
            for (at, _) in line.match_indices(start) {
                let (before, path) = line.split_at(at);
                if !before.ends_with("(in ") && !before.ends_with(is_of_path) {
                    let end = path.find(|character| !is_of_path(character)).unwrap_or(path.len());
                    self.paths.push(segments(path[..end].trim_end_matches(':')));
                }
            }
        }
    }
}

fn without_visibility(line: &str) -> &str {
    let Some(rest) = line.strip_prefix("pub") else { return line };
    let item = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, item)| item);
    item.trim_start()
}

/// Skips the rest of an item that ends with a brace at the start of a line.
fn skip_block<'a>(lines: &mut impl Iterator<Item = &'a str>) {
    lines.find(|line| *line == "}");
}

fn segments(path: &str) -> ModulePath {
    path.split("::").map(|segment| segment.trim().to_owned()).collect()
}

/// The paths in the braces of an import, each as a whole.
fn expanded(tree: &str) -> Vec<String> {
    let Some((start, list)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let list = list.rsplit_once('}').unwrap().0;
    let (mut paths, mut depth, mut from) = (vec![], 0_usize, 0);
    for (at, character) in list.char_indices().chain([(list.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = list[from..at].trim();
                if !part.is_empty() {
                    paths.extend(expanded(&format!("{start}{part}")));
                }
                from = at + 1;
            }
            _ => {}
        }
    }
    paths
}

/// The modules that each module uses.
type Uses = BTreeMap<ModulePath, BTreeSet<ModulePath>>;

/// The files of a crate.
struct Crate(BTreeMap<ModulePath, Imports>);

impl Crate {
    fn read(folder: &Path) -> Self {
        let (mut files, mut modules) = (BTreeMap::new(), vec![ModulePath::new()]);
        while let Some(module) = modules.pop() {
            let imports = Imports::of(&fs::read_to_string(file_of(folder, &module)).unwrap());
            modules
                .extend(imports.children.iter().map(|child| [module.as_slice(), from_ref(child)].concat()));
            files.insert(module, imports);
        }
        Self(files)
    }

    /// A path in a module from the root on. `None` if it is of another crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let up = path.iter().take_while(|segment| *segment == "super").count();
                let above = module.len().checked_sub(up)?;
                Some([&module[..above], &path[up..]].concat())
            }
            _ => self.0[module].children.contains(first).then(|| [module, path].concat()),
        }
    }

    /// The module whose file has the item of a path, also if the path leads through an import of another file.
    fn owner(&self, path: &[String]) -> Option<ModulePath> {
        let length = (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
        let (module, item) = path.split_at(length);
        let Some(imported) = item.first().and_then(|name| self.0[module].names.get(name)) else {
            return Some(module.to_vec());
        };
        let imported = self.absolute(module, imported)?;
        self.owner(&[imported.as_slice(), &item[1..]].concat())
    }

    fn uses(&self) -> Uses {
        let of = |(module, imports): (&ModulePath, &Imports)| {
            let children = imports.children.iter().map(|child| [module.as_slice(), from_ref(child)].concat());
            let others = imports.paths.iter().filter_map(|path| self.owner(&self.absolute(module, path)?));
            (module.clone(), children.chain(others).filter(|other| other != module).collect())
        };
        self.0.iter().map(of).collect()
    }
}

fn file_of(folder: &Path, module: &[String]) -> PathBuf {
    let path = module.iter().fold(folder.to_owned(), |path, name| path.join(name));
    let files = if module.is_empty() {
        ["lib.rs", "main.rs"].map(|name| path.join(name))
    } else {
        [path.with_extension("rs"), path.join("mod.rs")]
    };
    files.into_iter().find(|file| file.exists()).unwrap()
}

/// The modules on circles of imports and between them, with those of them that each uses.
fn circles(mut uses: Uses) -> Uses {
    loop {
        let (count, all) = (uses.len(), uses.keys().cloned().collect::<BTreeSet<_>>());
        let used: BTreeSet<_> = uses.values().flatten().cloned().collect();
        for others in uses.values_mut() {
            others.retain(|other| all.contains(other));
        }
        uses.retain(|module, others| used.contains(module) && !others.is_empty());
        if uses.len() == count {
            return uses;
        }
    }
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    for folder in crates.chain(["src", "xtask/src"].map(|folder| root.join(folder))) {
        let circles = circles(Crate::read(&folder).uses());
        assert!(circles.is_empty(), "{}: {circles:#?}", folder.display());
    }
}

#[test]
fn circles_of_imports_are_found() {
    for (child, is_circle) in [
        ("use super::Item;", true),
        ("use super::*;", true),
        ("use super::sibling;", true),
        ("fn f() -> crate::parent::Item {}", true),
        ("use crate::other::Other;", false),
        // The parent only imports it.
        ("use super::Other;", false),
        ("pub(in crate::parent) use serde::Serialize;", false),
        ("/// [`super::Item`]\nstruct A;", false),
        ("#[cfg(test)]\nmod tests {\n    use super::super::Item;\n}", false),
        ("#[cfg(test)]\nuse super::Item;", false),
    ] {
        let files = [
            ("", "mod other;\nmod parent;"),
            ("other", "pub struct Other;"),
            (
                "parent",
                "mod child;\nmod sibling;\n\npub use crate::{\n    other::{self, Other},\n};\nstruct Item;",
            ),
            ("parent::sibling", "use super::child::{A, B as C};"),
            ("parent::child", child),
        ];
        let path = |text: &str| if text.is_empty() { vec![] } else { segments(text) };
        let files = files.map(|(module, source)| (path(module), Imports::of(source)));
        let circles = circles(Crate(files.into()).uses());
        assert_eq!(!circles.is_empty(), is_circle, "{child}: {circles:?}");
    }
}

#[test]
fn all_clients_of_the_api_server_are_of_the_runtime() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    files(&root.join("src"), &mut found);
    found.retain(|file| {
        let source = fs::read_to_string(file).unwrap();
        ["Config::infer", "Client::try_", "ClientBuilder"].iter().any(|made| source.contains(made))
    });
    assert_eq!(found, [root.join("src/runtime/client.rs")], "only it limits the time of requests");
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
