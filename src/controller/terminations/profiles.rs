//! Keeps the profiles of workloads, and writes them: each at most once a minute, and all together at a limited rate.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use adieu_observer::{Profile, Termination, profile_name};
use kube::{
    Client, Error, Resource as _,
    api::{Patch, PatchParams, PostParams, Request},
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    api::{FIELD_MANAGER, TerminationProfile, TerminationProfileSpec, TerminationProfileStatus},
    controller::{context::ReconcileContext, keys::Key},
    index::{
        list::{Selectors, for_each},
        workloads::resource,
    },
    runtime::client,
};

/// How often the profile of a workload is written at most.
const WRITE_INTERVAL: Duration = Duration::from_mins(1);
/// The time between two writes: 10 per second.
const WRITE_PACE: Duration = Duration::from_millis(100);
/// The time after which profiles that can't be read are read again.
const RESTORE_RETRY: Duration = Duration::from_secs(10);
/// How many workloads have a profile at most. Those after them are only counted in metrics.
const MAX_PROFILES: usize = 20_000;

/// The profiles of all workloads.
#[derive(Default)]
pub(super) struct Profiles {
    entries: Mutex<HashMap<Key, Entry>>,
    changed: Notify,
}

struct Entry {
    profile: Profile,
    /// Whether the object exists.
    exists: bool,
    /// When it is to be written; `None` if it is up to date.
    due: Option<Instant>,
    /// Not written before.
    earliest: Instant,
}

/// The used fields of a stored profile.
#[derive(Deserialize)]
struct Stored {
    metadata: StoredMetadata,
    spec: TerminationProfileSpec,
    status: TerminationProfileStatus,
}

#[derive(Deserialize)]
struct StoredMetadata {
    namespace: String,
}

impl Profiles {
    /// Reads the profiles that earlier leaders wrote.
    pub(super) async fn restore(&self, client: &Client) {
        let path = TerminationProfile::url_path(&(), None);
        loop {
            let mut found = HashMap::new();
            let read = for_each(client, &path, Selectors::default(), |text| {
                // One that another client made unreadable counts from the start again.
                let Ok(stored) = serde_json::from_slice::<Stored>(text) else { return };
                let Stored { metadata, spec, status } = stored;
                let key = Key { namespace: metadata.namespace, kind: spec.kind, name: spec.name };
                let profile = Profile::of(status);
                if found.len() < MAX_PROFILES {
                    found.insert(key, Entry { profile, exists: true, due: None, earliest: Instant::now() });
                }
            });
            match read.await {
                Ok(()) => {
                    *self.lock() = found;
                    return;
                }
                Err(error) => tracing::warn!(%error, "cannot read TerminationProfiles, retrying"),
            }
            sleep(RESTORE_RETRY).await;
        }
    }

    /// Adds a termination to the profile of its workload.
    pub(super) fn add(&self, key: &Key, termination: &Termination) {
        let mut entries = self.lock();
        let now = Instant::now();
        if let Some(entry) = entries.get_mut(key) {
            entry.profile.add(termination);
            entry.due = entry.due.or(Some(entry.earliest.max(now)));
        } else if entries.len() < MAX_PROFILES {
            let profile = Profile::new(termination);
            entries.insert(key.clone(), Entry { profile, exists: false, due: Some(now), earliest: now });
        }
        drop(entries);
        self.changed.notify_one();
    }

    /// Writes profiles when they are due. Never returns.
    pub(super) async fn write(&self, context: &ReconcileContext) {
        loop {
            let next = self.next();
            match next {
                None => self.changed.notified().await,
                Some((_, due)) if due > Instant::now() => {
                    tokio::select! {
                        () = sleep_until(due) => {}
                        () = self.changed.notified() => {}
                    }
                }
                Some((key, _)) => {
                    self.write_one(context, &key).await;
                    sleep(WRITE_PACE).await;
                }
            }
        }
    }

    /// Writes everything that isn't written yet.
    pub(super) async fn flush(&self, context: &ReconcileContext) {
        while let Some((key, _)) = self.next() {
            self.write_one(context, &key).await;
        }
    }

    /// The profile that is due first.
    fn next(&self) -> Option<(Key, Instant)> {
        let entries = self.lock();
        let due = entries.iter().filter_map(|(key, entry)| Some((entry.due?, key)));
        due.min().map(|(due, key)| (key.clone(), due))
    }

    async fn write_one(&self, context: &ReconcileContext, key: &Key) {
        let workload = context.caches.workloads().cached(key.kind, &key.namespace, &key.name);
        let workload = workload.filter(|workload| workload.meta().deletion_timestamp.is_none());
        let Some(workload) = workload else {
            // The profile is deleted with its workload.
            self.lock().remove(key);
            return;
        };
        let (status, exists) = {
            let mut entries = self.lock();
            let Some(entry) = entries.get_mut(key) else { return };
            (entry.due, entry.earliest) = (None, Instant::now() + WRITE_INTERVAL);
            (entry.profile.status(), entry.exists)
        };
        let owner = workload.metadata_only().controller_owner_ref(&resource(key.kind));
        let written = write(&context.client, key, owner, &status, exists).await;
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(key) else { return };
        match written {
            Ok(()) => entry.exists = true,
            Err(error) => {
                let is_missing = matches!(&error, Error::Api(status) if status.code == 404);
                (entry.exists, entry.due) = (entry.exists && !is_missing, Some(entry.earliest));
                let Key { kind, namespace, name } = key;
                tracing::warn!(%kind, namespace, name, %error, "cannot write TerminationProfile, retrying");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates the profile, if it doesn't exist, and writes its status.
async fn write(
    client: &Client,
    key: &Key,
    owner: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>,
    status: &TerminationProfileStatus,
    exists: bool,
) -> Result<(), Error> {
    let name = profile_name(key.kind, &key.name);
    let request = Request::new(TerminationProfile::url_path(&(), Some(&key.namespace)));
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    if !exists {
        let spec = TerminationProfileSpec { kind: key.kind, name: key.name.clone() };
        let mut profile = TerminationProfile::new(&name, spec);
        profile.metadata.owner_references = owner.map(|owner| vec![owner]);
        let create = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let body = serde_json::to_vec(&profile).map_err(Error::SerdeError)?;
        match client::send(client, request.create(&create, body)).await {
            // Of an earlier leader, or of a workload that was just deleted: then it is deleted soon.
            Err(Error::Api(status)) if status.code == 409 => {}
            created => created?,
        }
    }
    let patch = Patch::Merge(json!({"status": status}));
    client::send(client, request.patch_subresource("status", &name, &parameters, &patch)).await
}
