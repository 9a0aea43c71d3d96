//! Manifests in, manifests out: what the commands that work on files have in common.

mod document;
mod edit;
mod input;
mod node;
mod objects;
mod output;
mod scalar;
mod written;

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use self::{
    document::Document,
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

    /// What is written. As YAML, a document that isn't changed keeps its text; as JSON, several documents
    /// become one List.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "yaml")]
    output: output::Format,

    /// Writes to this file instead of standard output, once everything is done.
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
}

/// What is wrong with manifests, each with its place. They stay as they are.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\nadieu: "))]
pub struct Refused(Vec<String>);

/// The documents of all files, and what becomes of them.
#[derive(Debug)]
pub struct Manifests {
    files: Vec<Vec<Document>>,
}

impl Manifests {
    /// Reads everything that the arguments name.
    pub(super) fn read(arguments: &Arguments) -> anyhow::Result<Self> {
        let files = input::read(&arguments.filename, arguments.recursive)?;
        let files = files.iter().map(|file| Document::read_all(&file.name, &file.text));
        Ok(Self { files: files.collect::<Result<_, _>>()? })
    }

    /// Reads one text, which is called `name` in messages.
    ///
    /// # Errors
    /// Where it is no YAML, or YAML that means nothing to Kubernetes.
    pub fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        Ok(Self { files: vec![Document::read_all(name, text)?] })
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
        for document in self.files.iter().flatten() {
            for object in document.value().map(objects).unwrap_or_default() {
                for finding in world.add(&object) {
                    match finding {
                        Finding::Refused(violation) => {
                            let place =
                                document.place(object.path.iter().chain(&violation.path).map(|s| &**s));
                            refused.push(format!("{place}: {}: {violation}", object.title()));
                        }
                        Finding::PassedOver(error) => {
                            let place = document.place(object.path.iter().map(|s| &**s));
                            warn(&format!(
                                "{place}: {} can't be read and is passed over: {error}",
                                object.title()
                            ));
                        }
                    }
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
    ) -> anyhow::Result<()> {
        let mut refused = Vec::new();
        let mut changed = Vec::new();
        for (file, documents) in self.files.iter().enumerate() {
            for (index, document) in documents.iter().enumerate() {
                let mut new = None;
                for object in document.value().map(objects).unwrap_or_default() {
                    let decision = decide_on(document, &object, &mut decide, &mut refused);
                    if let Some(template) = decision {
                        let value = new.get_or_insert_with(|| document.value().cloned().unwrap_or_default());
                        let way = object.path.iter().map(String::as_str).chain(["spec", "template"]);
                        let pointer: String = way.flat_map(|step| ["/", step]).collect();
                        if let Some(old) = value.pointer_mut(&pointer) {
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
            self.files[file][index].set(new)?;
        }
        Ok(())
    }

    /// Writes everything at once.
    pub(super) fn write(&self, arguments: &Arguments) -> anyhow::Result<()> {
        let text = output::text(&self.files, arguments.output)?;
        match &arguments.output_file {
            Some(path) => fs::write(path, text).with_context(|| format!("writing {}", path.display())),
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
                    "{}: {path}[{key}]: Invalid value: {value}: must be a string: put it in quotes",
                    place(path, key)
                ));
            }
        }
    }
    let annotations = string_map(&object.value["metadata"]["annotations"]);
    let labels = string_map(&object.value["metadata"]["labels"]);
    let owners = object.value["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let workload = Workload {
        labels: &labels,
        selector: object.value["spec"].get("selector"),
        recreates: object.value["spec"]["strategy"]["type"] == "Recreate",
        controlled: owners.into_iter().any(|owner| owner["controller"] == true),
        ..Workload::new(kind, &annotations, &object.value["spec"]["template"])
    };
    let admission = decide(&workload, object.namespace);
    for warning in admission.warnings {
        warn(&format!("{}: {warning}", place("", "")));
    }
    refused.extend(
        admission.refusals.iter().map(|invalid| format!("{}: {invalid}", place(invalid.path, invalid.key))),
    );
    admission.template.filter(|_| refused.len() == before)
}

/// Warnings don't change the exit code.
fn warn(message: &str) {
    eprintln!("warning: {message}");
}
