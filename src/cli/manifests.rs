//! Manifests in, manifests out: what the commands that work on files have in common.

mod document;
mod edit;
mod flow;
mod ignored;
mod input;
mod node;
mod objects;
mod output;
mod scalar;
mod tag;
mod usage;
mod whitespace;
mod written;

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use serde_json::Value;

pub(super) use self::usage::Usage;
use self::{
    document::Document,
    ignored::Ignored,
    objects::{Finding, Object, World, objects},
};
use crate::{
    api::annotations,
    plan::{Admission, Workload, string_map},
};

/// Where manifests come from and go to.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// A file with manifests (YAML with any number of documents, or JSON), a folder of .yaml, .yml and
    /// .json files, or - for standard input. May be given several times.
    #[arg(short, long, value_name = "FILE|DIR|-", required = true)]
    filename: Vec<PathBuf>,

    /// Also reads the folders in a folder given with -f.
    #[arg(short = 'R', long)]
    recursive: bool,

    /// The output format. With yaml, documents keep their text, also those in JSON, and only changed fields are
    /// rewritten. With json, several documents become one List.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "yaml")]
    output: output::Format,

    /// Writes to this file instead of standard output, once everything is done.
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,

    /// Omits the summary on standard error, but not the warnings.
    #[arg(short, long)]
    quiet: bool,
}

impl Arguments {
    /// Says at the end what was done, on standard error.
    pub(super) fn summarize(&self, summary: &str) {
        if !self.quiet {
            super::tell(format!("adieu: {summary}"));
        }
    }
}

/// What became of the workloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// They were injected, or what was injected changed.
    pub injected: usize,
    /// What was injected was reverted.
    pub reverted: usize,
    /// They are written as they were read.
    pub unchanged: usize,
}

impl Counts {
    /// Counts a workload that gets this template, or none.
    fn add(&mut self, template: Option<&Value>) {
        let injected =
            |template: &Value| !template["metadata"]["annotations"][annotations::INJECTED].is_null();
        *match template {
            None => &mut self.unchanged,
            Some(template) if injected(template) => &mut self.injected,
            Some(_) => &mut self.reverted,
        } += 1;
    }

    /// The summary of `adieu inject`, which skipped this number of other objects.
    pub(super) fn of_inject(self, skipped: usize) -> String {
        let Self { injected, reverted, unchanged } = self;
        let reverted = if reverted == 0 { String::new() } else { format!("{reverted} reverted, ") };
        format!("{injected} injected, {reverted}{unchanged} unchanged, {skipped} skipped")
    }

    /// The summary of `adieu revert`, which skipped this number of other objects.
    pub(super) fn of_revert(self, skipped: usize) -> String {
        format!("{} reverted, {} unchanged, {skipped} skipped", self.reverted, self.unchanged)
    }
}

impl Arguments {
    /// Whether any manifests are named.
    pub(super) fn name_files(&self) -> bool {
        !self.filename.is_empty()
    }

    /// Whether JSON is written.
    pub(super) fn write_json(&self) -> bool {
        matches!(self.output, output::Format::Json)
    }
}

/// What is wrong with manifests, each with its place. They stay as they are.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\nadieu: "))]
pub struct Refused(Vec<String>);

/// The documents of all files, and what becomes of them.
#[derive(Debug)]
pub struct Manifests {
    files: Vec<Vec<Document>>,
    /// Whether warnings go to standard error.
    warns: bool,
}

impl Manifests {
    /// Reads everything that the arguments name.
    pub(super) fn read(arguments: &Arguments) -> anyhow::Result<Self> {
        let files = input::read(&arguments.filename, arguments.recursive)?;
        let files = files.iter().map(|file| Document::read_all(&file.name, &file.text));
        Ok(Self { files: files.collect::<Result<_, _>>()?, warns: true })
    }

    /// Reads one text, which is called `name` in messages. No warnings are written.
    ///
    /// # Errors
    /// Where it is no YAML, or YAML that means nothing to Kubernetes.
    pub fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        Ok(Self { files: vec![Document::read_all(name, text)?], warns: false })
    }

    /// What the documents mean, empty ones left out.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.files.iter().flatten().filter_map(Document::value)
    }

    /// The documents as YAML: as they were read, but for what was changed.
    ///
    /// # Errors
    /// Where a document can't be written as YAML.
    pub fn yaml(&self) -> anyhow::Result<String> {
        Ok(output::text(&self.files, output::Format::Yaml)?)
    }

    /// The policies, Services and Namespaces among the objects. A policy that the API server would refuse
    /// is an error.
    pub(super) fn world(&self, default_namespace: &str) -> Result<World, Refused> {
        let mut world = World::new(default_namespace);
        let mut refused = Vec::new();
        for (document, object) in self.objects() {
            let at = document.place(object.path.iter().map(|s| &**s));
            for finding in world.add(&object, &at) {
                match finding {
                    Finding::Refused(violation) => {
                        let path = object.path.iter().chain(&violation.path).map(|s| &**s);
                        refused.push(format!("{}: {}: {violation}", document.place(path), object.title()));
                    }
                    Finding::PassedOver(error) => {
                        self.warn(&format!("{at}: {} can't be read and is passed over: {error}", object.title()));
                    }
                    Finding::Redefined => self.warn(&format!(
                        "{at}: {}: defined twice, with different values: this last definition is used, as after kubectl apply. Remove the other one",
                        object.title()
                    )),
                }
            }
        }
        if refused.is_empty() { Ok(world) } else { Err(Refused(refused)) }
    }

    /// Decides on each workload, by the namespace that it names, and changes those that shall be changed: all, or none
    /// where one of them is refused.
    ///
    /// # Errors
    /// Where annotations are malformed.
    pub fn change(
        &mut self,
        mut decide: impl FnMut(&Workload<'_>, Option<&str>) -> Admission,
    ) -> anyhow::Result<Counts> {
        let mut counts = Counts::default();
        let mut refused = Vec::new();
        let mut changed = Vec::new();
        for (file, documents) in self.files.iter().enumerate() {
            for (index, document) in documents.iter().enumerate() {
                let Some(value) = document.value() else { continue };
                let mut new: Option<Value> = None;
                for object in objects(value).iter().filter(|object| object.workload().is_some()) {
                    let mut warnings = Vec::new();
                    let template = decide_on(document, object, &mut decide, &mut refused, &mut warnings);
                    for warning in &warnings {
                        self.warn(warning);
                    }
                    counts.add(template.as_ref());
                    if let Some(template) = template {
                        let whole = new.get_or_insert_with(|| value.clone());
                        let place = object.path.iter().try_fold(whole, |value, step| match value {
                            Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
                            value => value.get_mut(step),
                        });
                        if let Some(old) = place.and_then(|object| object.pointer_mut("/spec/template")) {
                            *old = template;
                        }
                    }
                }
                changed.extend(new.map(|new| (file, index, new)));
            }
        }
        if !refused.is_empty() {
            return Err(Refused(refused).into());
        }
        for (file, index, new) in changed {
            let document = &mut self.files[file][index];
            if document.set(new)? {
                let place = document.place([]);
                self.warn(&format!(
                    "{place}: this document can't be changed in place: it is written anew, without its comments"
                ));
            }
        }
        Ok(counts)
    }

    /// Warns of keys under `adieu.dev/` that have no effect where a workload has them.
    pub(super) fn warn_of_misplaced(&self) {
        self.warn_of(|object| ignored::misplaced(object).filter(|_| object.workload().is_some()));
    }

    /// Warns of annotations on objects that `adieu inject` doesn't change. Returns how many objects those are.
    pub(super) fn warn_of_unsupported(&self) -> usize {
        self.warn_of(|object| ignored::unsupported(object).filter(|_| object.workload().is_none()))
    }

    /// Warns of records on objects that `adieu revert` doesn't change. Returns how many objects those are.
    pub(super) fn warn_of_unreverted(&self) -> usize {
        self.warn_of(ignored::unreverted)
    }

    fn warn_of(&self, find: impl Fn(&Object<'_>) -> Option<Ignored>) -> usize {
        let mut count = 0;
        for (document, object) in self.objects() {
            if let Some(Ignored { path, message }) = find(&object) {
                let place = document.place(object.path.iter().chain(&path).map(|s| &**s));
                self.warn(&format!("{place}: {}: {message}", object.title()));
                count += 1;
            }
        }
        count
    }

    fn objects(&self) -> impl Iterator<Item = (&Document, Object<'_>)> {
        let documents = self.files.iter().flatten();
        documents.flat_map(|document| {
            document
                .value()
                .map(objects)
                .unwrap_or_default()
                .into_iter()
                .map(move |object| (document, object))
        })
    }

    /// Tells a person something that doesn't change the exit code.
    pub(super) fn warn(&self, message: &str) {
        if self.warns {
            super::tell(format!("warning: {message}"));
        }
    }

    /// Writes everything at once.
    pub(super) fn write(&self, arguments: &Arguments) -> anyhow::Result<()> {
        let text = output::text(&self.files, arguments.output)?;
        match &arguments.output_file {
            Some(path) => output::to_file(path, &text).with_context(|| format!("writing {}", path.display())),
            None => std::io::stdout().write_all(text.as_bytes()).context("writing to standard output"),
        }
    }
}

/// The new template of an object that is a workload, if it gets one.
fn decide_on(
    document: &Document,
    object: &Object<'_>,
    decide: &mut impl FnMut(&Workload<'_>, Option<&str>) -> Admission,
    refused: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Option<Value> {
    let kind = object.workload()?;
    let place = |path: &str, key: &str| {
        let way = object.path.iter().map(String::as_str).chain(path.split('.')).chain([key]);
        format!("{}: {}", document.place(way), object.title())
    };
    let before = refused.len();
    for path in ["metadata.annotations", "spec.template.metadata.annotations"] {
        let annotations = path.split('.').fold(object.value, |value, step| &value[step]);
        for (key, value) in annotations.as_object().into_iter().flatten() {
            if annotations::is_own(key) && !value.is_string() {
                refused.push(format!(
                    "{}: {path}[{key}]: Invalid value: {value}: must be a string: {}",
                    place(path, key),
                    if value.is_null() { "remove it, or give it a value" } else { "put it in quotes" }
                ));
            }
        }
    }
    let annotations = string_map(&object.value["metadata"]["annotations"]);
    let workload = Workload {
        selector: object.value["spec"].get("selector"),
        recreates: object.value["spec"]["strategy"]["type"] == "Recreate",
        controlled: object.is_controlled(),
        ..Workload::new(kind, &annotations, &object.value["spec"]["template"])
    };
    let admission = decide(&workload, object.namespace);
    for warning in admission.warnings {
        warnings.push(format!("{}: {warning}", place("", "")));
    }
    refused.extend(
        admission.refusals.iter().map(|invalid| format!("{}: {invalid}", place(invalid.path, invalid.key))),
    );
    admission.template.filter(|_| refused.len() == before)
}
