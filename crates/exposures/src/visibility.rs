//! The namespaces whose proxies see an object of Istio (`exportTo`).

use std::collections::BTreeSet;

/// All namespaces.
const ALL: &str = "*";
/// The namespace of the object.
const OWN: &str = ".";
/// No namespace.
const NONE: &str = "~";
/// The maximum length of the name of a namespace, in bytes.
const MAX_NAME: usize = 63;
/// With more names, an object counts as visible in all namespaces: each Service is compared with each object.
const MAX_NAMES: usize = 100;
/// The approximate memory of a name in bytes, beside its text.
const NAME_SIZE: usize = 100;

/// The namespaces whose proxies see an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// All of them, as by default in a mesh (`defaultServiceExportTo`, `defaultVirtualServiceExportTo`).
    #[default]
    All,
    /// These.
    Namespaces(BTreeSet<String>),
}

impl Visibility {
    /// Reads the entries of `exportTo` of an object in the namespace `own`. Without any, all namespaces see it.
    pub(crate) fn read<'a>(entries: impl IntoIterator<Item = &'a str>, own: &str) -> Self {
        let entries: BTreeSet<_> =
            entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()).collect();
        if entries.is_empty() || entries.contains(ALL) || entries.len() > MAX_NAMES {
            return Self::All;
        }
        let names = entries.into_iter().filter(|entry| *entry != NONE && entry.len() <= MAX_NAME);
        let name = |entry: &str| if entry == OWN { own.to_owned() } else { entry.to_owned() };
        Self::Namespaces(names.map(name).collect())
    }

    /// Whether proxies of a namespace other than `own` see both objects.
    pub(crate) fn meets_outside(&self, other: &Self, own: &str) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::All, Self::Namespaces(names)) | (Self::Namespaces(names), Self::All) => {
                names.iter().any(|name| name != own)
            }
            (Self::Namespaces(names), Self::Namespaces(others)) => {
                names.intersection(others).any(|name| name != own)
            }
        }
    }

    /// The approximate memory that it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Namespaces(names) => names.iter().map(|name| NAME_SIZE + name.len()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_objects_meet_where_proxies_of_another_namespace_see_both() {
        let virtual_service = |entries: &[&str]| Visibility::read(entries.iter().copied(), "edge");
        let service = |text: &str| Visibility::read(text.split(','), "shop");
        let cases: [(&[&str], &str, bool); 12] = [
            (&[], "", true),
            (&["*"], "*", true),
            (&["."], "", true),
            (&["~"], "", false),
            (&[], ".", false),
            (&["*"], "shop", false),
            (&["shop"], "", false),
            (&[], "~", false),
            (&[], "., istio-system", true),
            (&["."], "., istio-system", false),
            (&["."], "., edge", true),
            (&[".", "shop"], "., bank", false),
        ];
        for (export, annotation, expected) in cases {
            let found = virtual_service(export).meets_outside(&service(annotation), "shop");
            assert_eq!(found, expected, "{export:?} {annotation:?}");
        }
        assert_eq!(virtual_service(&["a", "*"]), Visibility::All);
        let long = "x".repeat(MAX_NAME + 1);
        assert_eq!(virtual_service(&[long.as_str()]), Visibility::Namespaces(BTreeSet::new()));
        let many: Vec<_> = (0..=MAX_NAMES).map(|number| number.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(virtual_service(&many), Visibility::All);
        assert_ne!(virtual_service(&many[1..]), Visibility::All);
        assert!(virtual_service(&["a", "b"]).size() > virtual_service(&["a"]).size());
    }
}
