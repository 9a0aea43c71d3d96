//! Changes the drain of a workload by its annotation, and restores it.

use std::time::Duration;

use kube::core::DynamicObject;
use tokio::time::timeout;

use super::{error::Error, workload::TargetWorkload};
use crate::api::annotations::DRAIN_SECONDS;

/// The annotation `adieu.dev/drain-seconds` of a workload while other drains are tried. Call
/// [`TemporaryDrain::restore`] in any case.
pub struct TemporaryDrain {
    workload: TargetWorkload,
    original: Option<String>,
    is_changed: bool,
}

impl TemporaryDrain {
    /// That of a workload, with its object.
    #[must_use]
    pub fn of(workload: &TargetWorkload, object: &DynamicObject) -> Self {
        let annotations = object.metadata.annotations.as_ref();
        let original = annotations.and_then(|annotations| annotations.get(DRAIN_SECONDS)).cloned();
        Self { workload: workload.clone(), original, is_changed: false }
    }

    /// Sets the drain.
    ///
    /// # Errors
    /// The request fails.
    pub async fn set(&mut self, seconds: u64) -> Result<(), Error> {
        // Recorded before it is made.
        self.is_changed = true;
        self.workload.annotate(DRAIN_SECONDS, Some(&seconds.to_string())).await
    }

    /// Restores the annotation, if it was changed.
    ///
    /// # Errors
    /// The request fails, or it takes longer than `limit`. The error has the command to do it manually.
    pub async fn restore(&mut self, limit: Duration) -> Result<(), Error> {
        if !self.is_changed {
            return Ok(());
        }
        let restored = timeout(limit, self.workload.annotate(DRAIN_SECONDS, self.original.as_deref())).await;
        let too_long = || Error::Incomplete(format!("it took longer than {} s", limit.as_secs()));
        let Err(error) = restored.unwrap_or_else(|_| Err(too_long())) else {
            self.is_changed = false;
            return Ok(());
        };
        Err(Error::Incomplete(format!(
            "{} still has another drain ({}): {}",
            self.workload,
            error.with_cause(),
            self.command()
        )))
    }

    /// The command that restores the annotation.
    fn command(&self) -> String {
        let TargetWorkload { kind, namespace, name, .. } = &self.workload;
        let kind = kind.as_str().to_lowercase();
        match &self.original {
            Some(value) => {
                format!("kubectl -n {namespace} annotate --overwrite {kind} {name} {DRAIN_SECONDS}={value}")
            }
            None => format!("kubectl -n {namespace} annotate {kind} {name} {DRAIN_SECONDS}-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        plan::Kind,
        runtime::test_support::{client, failure},
    };

    /// Restores the drain of a workload with these annotations, against an API server that denies the change from this
    /// number of patches on. Returns the result, and the number of patches.
    async fn restored(annotations: Value, denied_from: usize) -> (Result<(), Error>, usize) {
        let patches = Arc::new(Mutex::new(0));
        let count = patches.clone();
        let client = client(move |method, _| {
            let web = json!({
                "metadata": {"name": "web", "annotations": annotations},
                "spec": {"selector": {"matchLabels": {"app": "web"}}},
            });
            if *method == Method::PATCH {
                let mut patches = count.lock().unwrap();
                *patches += 1;
                if *patches >= denied_from {
                    return Some((500, failure(500, "etcd has no leader")));
                }
            }
            Some((200, web))
        });
        let (workload, object) =
            TargetWorkload::find(&client, Kind::Deployment, "shop", "web").await.unwrap();
        let mut drain = TemporaryDrain::of(&workload, &object);
        drain.restore(Duration::from_secs(30)).await.unwrap();
        drain.set(5).await.unwrap();
        let restored = drain.restore(Duration::from_secs(30)).await;
        let patches = *patches.lock().unwrap();
        (restored, patches)
    }

    #[tokio::test]
    async fn the_annotation_is_restored_once_it_was_changed() {
        let (restored, patches) = restored(json!({"adieu.dev/drain-seconds": "20"}), 10).await;
        restored.unwrap();
        assert_eq!(patches, 2);
    }

    #[tokio::test]
    async fn a_failed_restore_has_the_command() {
        for (annotations, command) in [
            (
                json!({"adieu.dev/drain-seconds": "20"}),
                "kubectl -n shop annotate --overwrite deployment web adieu.dev/drain-seconds=20",
            ),
            (json!({}), "kubectl -n shop annotate deployment web adieu.dev/drain-seconds-"),
        ] {
            let error = restored(annotations, 2).await.0.unwrap_err().to_string();
            assert!(error.contains(command) && error.contains("etcd has no leader"), "{error}");
        }
    }
}
