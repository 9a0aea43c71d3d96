//! Manifests: reads YAML and JSON, changes workloads in them, and writes them with as few changes of the text as
//! possible. Warnings are collected; nothing is printed.

#![deny(clippy::disallowed_methods)]

mod apply;
mod block;
mod cluster_objects;
mod document;
mod edit;
mod flow;
mod ineffective_settings;
mod json;
mod malformed;
mod manifest_set;
mod node;
mod objects;
mod ordered;
mod policy_usage;
mod render;
mod scalar;
mod tag;
mod whitespace;
mod writer;

use serde_json::Value;

pub use self::{
    apply::applied, cluster_objects::ClusterObjects, document::DocumentError, manifest_set::ManifestSet,
    policy_usage::PolicyUsage, render::Format,
};
use self::{
    document::Document,
    ineffective_settings::Ineffective,
    manifest_set::ObjectProblem,
    objects::{Object, objects},
};
use adieu_core::{
    api::{WorkloadKind, annotations},
    plan::{Admission, Workload, is_replaced_terminated, string_map},
};

/// Why manifests can't be read, changed or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A document can't be read or written.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Objects are invalid; each message has a location. No document is changed.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// A value can't be written as JSON.
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The number of workloads by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Workloads that were injected, or whose injection changed.
    pub injected: usize,
    /// Workloads whose injection was reverted.
    pub reverted: usize,
    /// Workloads that are written unchanged.
    pub unchanged: usize,
}

impl Counts {
    /// Counts a workload with this new template.
    fn add(&mut self, template: Option<&Value>) {
        let injected =
            |template: &Value| !template["metadata"]["annotations"][annotations::INJECTED].is_null();
        *match template {
            None => &mut self.unchanged,
            Some(template) if injected(template) => &mut self.injected,
            Some(_) => &mut self.reverted,
        } += 1;
    }
}

/// An object of a document.
#[derive(Debug)]
pub struct FoundObject<'a> {
    document: &'a Document,
    object: Object<'a>,
}

impl<'a> FoundObject<'a> {
    /// Its API version, such as `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> &'a str {
        self.object.api_version
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &'a str {
        self.object.kind
    }

    /// Its kind, if adieu injects it.
    #[must_use]
    pub fn workload_kind(&self) -> Option<WorkloadKind> {
        self.object.workload()
    }

    /// The object.
    #[must_use]
    pub fn value(&self) -> &'a Value {
        self.object.value
    }

    /// The file, and the line of the deepest existing part of a field path such as
    /// `spec.template.spec.containers[0].lifecycle`.
    #[must_use]
    pub fn location(&self, path: &str) -> (&'a str, usize) {
        let steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
        self.document.file_and_line(self.object.path.iter().map(String::as_str).chain(steps))
    }
}

/// The documents of all files, and the warnings so far.
#[derive(Debug, Default)]
pub struct Manifests {
    files: Vec<Vec<Document>>,
    warnings: Vec<String>,
}

impl Manifests {
    /// Parses one text, with `name` in messages.
    ///
    /// # Errors
    /// If it isn't YAML, or YAML that Kubernetes can't read.
    pub fn parse(name: &str, text: &str) -> Result<Self, Error> {
        let mut manifests = Self::default();
        manifests.add(name, text)?;
        Ok(manifests)
    }

    /// Parses another text.
    ///
    /// # Errors
    /// Like [`Self::parse`].
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), Error> {
        self.files.push(Document::read_all(name, text)?);
        Ok(())
    }

    /// The values of the documents, without empty ones.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.files.iter().flatten().filter_map(Document::value)
    }

    /// The objects of all documents, including the items of lists.
    pub fn found_objects(&self) -> impl Iterator<Item = FoundObject<'_>> {
        self.objects().map(|(document, object)| FoundObject { document, object })
    }

    /// The documents as YAML: as they were read, except for changes.
    #[must_use]
    pub fn yaml(&self) -> String {
        render::yaml(&self.files)
    }

    /// The documents as text.
    ///
    /// # Errors
    /// If a value can't be written as JSON.
    pub fn render(&self, format: Format) -> Result<String, Error> {
        match format {
            Format::Yaml => Ok(self.yaml()),
            Format::Json => Ok(render::json(&self.files)?),
        }
    }

    /// Returns the warnings since the last call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The policies, Services, objects that lead requests to them, and Namespaces among the objects.
    ///
    /// # Errors
    /// If the API server would reject a policy.
    pub fn set(&mut self, default_namespace: &str) -> Result<ManifestSet, Error> {
        let mut set = ManifestSet::new(default_namespace);
        let (mut invalid, mut warnings) = (Vec::new(), Vec::new());
        for (document, object) in self.objects() {
            let location = document.location(object.path.iter().map(|s| &**s));
            for problem in set.add(&object, &location) {
                match problem {
                    ObjectProblem::Invalid(violation) => {
                        let path = object.path.iter().chain(&violation.path).map(|s| &**s);
                        invalid.push(format!("{}: {}: {violation}", document.location(path), object.title()));
                    }
                    ObjectProblem::Unreadable(error) => {
                        warnings.push(format!("{location}: {} cannot be read and is skipped: {error}", object.title()));
                    }
                    ObjectProblem::UnknownExposure(exposure) => warnings.push(format!(
                        "{location}: {}: spec.drainProfiles: exposure {exposure:?} isn't a built-in profile and has no effect: use a name of `adieu profiles`, or a class such as IngressClass/nginx",
                        object.title()
                    )),
                    ObjectProblem::Redefined => warnings.push(format!(
                        "{location}: {}: defined twice, with different values: this last definition is used, as after kubectl apply. Remove the other one",
                        object.title()
                    )),
                }
            }
        }
        self.warnings.extend(warnings);
        if invalid.is_empty() { Ok(set) } else { Err(Error::Invalid(invalid)) }
    }

    /// Calls `decide` for each workload and its namespace, and changes templates: all, or none if a workload is denied.
    ///
    /// # Errors
    /// If annotations are invalid.
    pub fn change(
        &mut self,
        mut decide: impl FnMut(&Workload<'_>, Option<&str>) -> Admission,
    ) -> Result<Counts, Error> {
        let mut counts = Counts::default();
        let mut messages = Messages::default();
        let mut changed = Vec::new();
        for (file, documents) in self.files.iter().enumerate() {
            for (index, document) in documents.iter().enumerate() {
                let new = change_document(document, &mut decide, &mut counts, &mut messages);
                changed.extend(new.map(|new| (file, index, new)));
            }
        }
        self.warnings.extend(messages.warnings);
        if !messages.denials.is_empty() {
            return Err(Error::Invalid(messages.denials));
        }
        for (file, index, new) in changed {
            let document = &mut self.files[file][index];
            if document.set(new)? {
                self.warnings.push(format!(
                    "{}: this document cannot be changed in place: it is rewritten in another layout, without comments",
                    document.location([])
                ));
            }
        }
        Ok(counts)
    }

    /// Warns of keys under `adieu.dev/` in the wrong place of a workload.
    pub fn warn_of_misplaced(&mut self) {
        self.warn_of(|object| {
            ineffective_settings::misplaced(object).filter(|_| object.workload().is_some())
        });
    }

    /// Warns of annotations on objects that `adieu inject` doesn't change. Returns the number of these objects.
    pub fn warn_of_unsupported(&mut self) -> usize {
        self.warn_of(|object| {
            ineffective_settings::unsupported(object).filter(|_| object.workload().is_none())
        })
    }

    /// Warns of records on objects that `adieu revert` doesn't change. Returns the number of these objects.
    pub fn warn_of_unreverted(&mut self) -> usize {
        self.warn_of(ineffective_settings::unreverted)
    }

    fn warn_of(&mut self, find: impl Fn(&Object<'_>) -> Option<Ineffective>) -> usize {
        let mut warnings = Vec::new();
        for (document, object) in self.objects() {
            if let Some(Ineffective { path, message }) = find(&object) {
                let location = document.location(object.path.iter().chain(&path).map(|s| &**s));
                warnings.push(format!("{location}: {}: {message}", object.title()));
            }
        }
        let count = warnings.len();
        self.warnings.extend(warnings);
        count
    }

    fn objects(&self) -> impl Iterator<Item = (&Document, Object<'_>)> {
        let documents = self.files.iter().flatten();
        documents.flat_map(|document| {
            let objects = document.value().map(objects).unwrap_or_default();
            objects.into_iter().map(move |object| (document, object))
        })
    }
}

#[derive(Default)]
struct Messages {
    denials: Vec<String>,
    warnings: Vec<String>,
}

/// The new value of a document, if a workload in it changes.
fn change_document(
    document: &Document,
    decide: &mut impl FnMut(&Workload<'_>, Option<&str>) -> Admission,
    counts: &mut Counts,
    messages: &mut Messages,
) -> Option<Value> {
    let value = document.value()?;
    let mut new: Option<Value> = None;
    for object in objects(value).iter().filter(|object| object.workload().is_some()) {
        let template = new_template(document, object, decide, messages);
        counts.add(template.as_ref());
        let Some(template) = template else { continue };
        let whole = new.get_or_insert_with(|| value.clone());
        let target = object.path.iter().try_fold(whole, |value, step| match value {
            Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
            value => value.get_mut(step),
        });
        if let Some(old) = target.and_then(|object| object.pointer_mut("/spec/template")) {
            *old = template;
        }
    }
    new
}

/// The new template of a workload, if it changes.
fn new_template(
    document: &Document,
    object: &Object<'_>,
    decide: &mut impl FnMut(&Workload<'_>, Option<&str>) -> Admission,
    messages: &mut Messages,
) -> Option<Value> {
    let kind = object.workload()?;
    let title = |path: &str, key: &str| {
        let path = object.path.iter().map(String::as_str).chain(path.split('.')).chain([key]);
        format!("{}: {}", document.location(path), object.title())
    };
    let before = messages.denials.len();
    for path in ["metadata.annotations", "spec.template.metadata.annotations"] {
        let annotations = path.split('.').fold(object.value, |value, step| &value[step]);
        for (key, value) in annotations.as_object().into_iter().flatten() {
            if annotations::is_own(key) && !value.is_string() {
                messages.denials.push(format!(
                    "{}: {path}[{key}]: Invalid value: {value}: must be a string: {}",
                    title(path, key),
                    if value.is_null() { "remove it, or give it a value" } else { "put it in quotes" }
                ));
            }
        }
    }
    let annotations = string_map(&object.value["metadata"]["annotations"]);
    let workload = Workload {
        selector: object.value["spec"].get("selector"),
        recreates: object.value["spec"]["strategy"]["type"] == "Recreate",
        replaces_terminated: is_replaced_terminated(&object.value["spec"]),
        controlled: object.is_controlled(),
        ..Workload::new(kind, &annotations, &object.value["spec"]["template"])
    };
    let admission = decide(&workload, object.namespace);
    messages
        .warnings
        .extend(admission.warnings.iter().map(|warning| format!("{}: {warning}", title("", ""))));
    let denial = |invalid: &annotations::Invalid| format!("{}: {invalid}", title(invalid.path, invalid.key));
    messages.denials.extend(admission.denials.iter().map(denial));
    admission.template.filter(|_| messages.denials.len() == before)
}
