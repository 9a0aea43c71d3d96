//! One way in which requests reach pods.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::{delay::Delay, object_name::ObjectName, profiles::BuiltInProfile};

/// A way in which requests reach the pods of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Exposure {
    /// The drain that it needs, if nothing else is known.
    pub profile: &'static BuiltInProfile,
    /// Its class, such as `IngressClass/nginx`, if it has one.
    pub class: Option<String>,
    /// The object that leads to the pods.
    pub object: ObjectName,
    /// The time for which its load balancer keeps connections to a deregistered pod, if an object gives it.
    pub delay: Option<Delay>,
}

impl Exposure {
    /// An exposure without a class.
    pub(crate) fn of(profile: &'static BuiltInProfile, object: ObjectName) -> Self {
        Self { profile, class: None, object, delay: None }
    }

    /// Its object with the name of its class, or with that of its profile.
    pub(crate) fn short_name(&self) -> String {
        let Self { profile, class, object, .. } = self;
        match class.as_deref().and_then(|class| class.split_once('/')) {
            Some((_, class)) => format!("{object} (class {class})"),
            None => format!("{object} ({})", profile.name),
        }
    }

    /// Whether a drain profile of this name is about it: of its class, or of its built-in profile.
    pub(crate) fn is(&self, name: &str) -> bool {
        name == self.profile.name || self.class.as_deref() == Some(name)
    }
}

impl Display for Exposure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { profile, class, object, .. } = self;
        match class {
            Some(class) => write!(f, "{object} ({}, {class})", profile.exposure),
            None => write!(f, "{object} ({})", profile.exposure),
        }
    }
}
