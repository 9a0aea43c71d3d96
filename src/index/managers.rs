//! Decodes `managedFields` without their fields, of which a client may send any number.

use std::{borrow::Cow, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde::{
    Deserialize,
    de::{Deserializer, Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::api::FIELD_MANAGER;

/// The maximum number of entries in an answer.
const MAX_MANAGERS: usize = 1000;

/// All entries, without their fields.
pub(super) struct Managers(pub(super) Vec<ManagedFieldsEntry>);

impl<'de> Deserialize<'de> for Managers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ManagersVisitor)
    }
}

struct ManagersVisitor;

impl<'de> Visitor<'de> for ManagersVisitor {
    type Value = Managers;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at most {MAX_MANAGERS} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Managers, A::Error> {
        let mut managers = vec![];
        while let Some(Entry { manager, subresource }) = entries.next_element()? {
            if managers.len() == MAX_MANAGERS {
                return Err(A::Error::invalid_length(MAX_MANAGERS + 1, &self));
            }
            let [manager, subresource] = [manager, subresource].map(|text| text.map(Cow::into_owned));
            managers.push(ManagedFieldsEntry { manager, subresource, ..ManagedFieldsEntry::default() });
        }
        Ok(Managers(managers))
    }
}

/// adieu's entries.
pub(super) struct OwnFields<'a>(pub(super) Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for OwnFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(OwnFieldsVisitor).map(OwnFields)
    }
}

struct OwnFieldsVisitor;

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    manager: Option<Cow<'a, str>>,
    #[serde(borrow)]
    subresource: Option<Cow<'a, str>>,
}

impl<'de> Visitor<'de> for OwnFieldsVisitor {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("managedFields")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut own = vec![];
        while let Some(text) = entries.next_element::<&'de RawValue>()? {
            let entry: Entry<'de> = serde_json::from_str(text.get()).map_err(A::Error::custom)?;
            if entry.manager.as_deref() == Some(FIELD_MANAGER) {
                own.push(text);
            }
        }
        Ok(own)
    }
}
