//! A pod template with the record of its injection.

use std::{cell::OnceCell, ops::Deref};

use serde_json::Value;

use super::record::{self, Record};
use crate::api::annotations::INJECTED;

/// A pod template, unchanged. Its record is parsed when it is first needed, and only once.
#[derive(Clone, Debug)]
pub struct PodTemplate<'a> {
    value: &'a Value,
    record: OnceCell<Option<Record>>,
}

impl<'a> PodTemplate<'a> {
    /// A template, or the metadata and spec of a pod.
    #[must_use]
    pub fn new(value: &'a Value) -> Self {
        Self { value, record: OnceCell::new() }
    }

    /// The record of its injection; `None` if it is absent or unreadable.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.record.get_or_init(|| record::read(self.value)).as_ref()
    }

    /// Its record, if the command line made it. Few are, so others are recognized without parsing them.
    pub(super) fn rendered_record(&self) -> Option<&Record> {
        self.record_text().filter(|text| text.contains("\"rendered\""))?;
        self.record().filter(|record| record.rendered)
    }

    /// The text of its record.
    #[must_use]
    pub fn record_text(&self) -> Option<&'a str> {
        record::text(self.value)
    }

    /// Whether another template differs only in the text of its record, and in the label.
    pub(super) fn differs_only_in_record(&self, other: &Self) -> bool {
        let texts = self.record_text().zip(other.record_text());
        texts.is_some_and(|(text, other)| text != other)
            && self.without_record_text() == other.without_record_text()
    }

    /// The template without the text of its record, and without the label that was added with it.
    fn without_record_text(&self) -> Value {
        let mut template = self.value.clone();
        if let Some(metadata) = template["metadata"].as_object_mut() {
            metadata.get_mut("annotations").and_then(Value::as_object_mut).map(|all| all.remove(INJECTED));
            self.record().inspect(|record| record.unlabel(metadata));
        }
        template
    }
}

impl Deref for PodTemplate<'_> {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::{Settings, Source};

    #[test]
    fn only_the_record_of_the_command_line_is_rendered() {
        let rendered = |value: bool| {
            let mut record = json!(Record::new(Source::WorkloadAnnotation, Settings::default()));
            record["rendered"] = json!(value);
            let template = json!({"metadata": {"annotations": {INJECTED: record.to_string()}}});
            PodTemplate::new(&template).rendered_record().is_some()
        };
        assert!(rendered(true) && !rendered(false));
    }
}
