//! Keeps the profiles of workloads, and writes them: each at most once a minute, and all together at a limited rate.

use std::{sync::Mutex, time::Duration};

use adieu_observer::{Profile, Termination, profile_name};
use kube::{
    Client, Error, Resource as _,
    api::{Patch, PatchParams, PostParams, Request},
};
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use super::profile_set::{Entry, ProfileSet};
use crate::{
    api::{
        FIELD_MANAGER, Recommendation, RecommendationMode, TerminationProfile, TerminationProfileSpec,
        TerminationProfileStatus,
    },
    controller::context::ReconcileContext,
    index::{termination_profiles::for_each_profile, workloads::resource},
    keys::WorkloadKey as Key,
    runtime::{client, lock::lock},
};

/// How often the profile of a workload is written at most.
const WRITE_INTERVAL: Duration = Duration::from_mins(1);
/// The time between two writes: 10 per second.
const WRITE_PACE: Duration = Duration::from_millis(100);
/// The time after which profiles that can't be read are read again.
const RESTORE_RETRY: Duration = Duration::from_secs(10);
/// How many terminations wait until the profiles are restored.
const MAX_PENDING: usize = 10_000;

/// The profiles of all workloads.
pub(super) struct Profiles {
    entries: Mutex<ProfileSet>,
    /// `None` once the profiles are restored.
    pending: Mutex<Option<Pending>>,
    changed: Notify,
    /// Terminations that no profile counts.
    unprofiled: Counter,
}

/// The terminations of workloads, with their uids, whose profiles are not restored yet.
type Pending = Vec<(Key, String, Termination)>;

impl Profiles {
    /// No profiles yet. `unprofiled` counts the terminations for which there are too many.
    pub(super) fn new(unprofiled: Counter) -> Self {
        let pending = Mutex::new(Some(vec![]));
        Self { entries: Mutex::default(), pending, changed: Notify::new(), unprofiled }
    }

    /// Reads the profiles that earlier leaders wrote, until that succeeds.
    pub(super) async fn restore(&self, client: &Client) {
        loop {
            let mut found = ProfileSet::default();
            // One that another client made unreadable counts from the start again.
            let read = for_each_profile(client, None, |key, uid, status| {
                found.insert(key, Entry::restored(uid, Profile::of(status)));
            });
            match read.await {
                Ok(()) => {
                    *lock(&self.entries) = found;
                    let pending = lock(&self.pending).take().unwrap_or_default();
                    for (key, uid, termination) in pending {
                        self.add(&key, &uid, &termination, |_| true);
                    }
                    return;
                }
                Err(error) => tracing::warn!(%error, "cannot read TerminationProfiles, retrying"),
            }
            sleep(RESTORE_RETRY).await;
        }
    }

    /// Passes all recommendations to the reconcilers.
    pub(super) fn recommend_all(&self, context: &ReconcileContext) {
        let recommendations: Vec<_> = {
            let entries = lock(&self.entries);
            let of = |entry: &Entry| Some((entry.uid.clone(), entry.profile.recommendation()?));
            entries.all().filter_map(|(key, entry)| Some((key.clone(), of(entry)?))).collect()
        };
        for (key, (uid, recommendation)) in recommendations {
            recommend(context, &key, &uid, Some(recommendation));
        }
    }

    /// Adds a termination to the profile of its workload, which has this uid. Profiles of workloads that don't exist are
    /// dropped if there are too many.
    pub(super) fn add(&self, key: &Key, uid: &str, termination: &Termination, exists: impl Fn(&Key) -> bool) {
        if let Some(pending) = lock(&self.pending).as_mut() {
            if pending.len() < MAX_PENDING {
                pending.push((key.clone(), uid.to_owned(), termination.clone()));
            } else {
                self.unprofiled.inc();
            }
            return;
        }
        if lock(&self.entries).add(key, uid, termination, exists) {
            self.changed.notify_one();
        } else {
            self.unprofiled.inc();
        }
    }

    /// Writes profiles when they are due. Never returns.
    pub(super) async fn write(&self, context: &ReconcileContext) {
        loop {
            let next = lock(&self.entries).next_due();
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

    /// Writes everything that isn't written yet, once.
    pub(super) async fn flush(&self, context: &ReconcileContext) {
        let due = lock(&self.entries).all_due();
        for key in due {
            self.write_one(context, &key).await;
        }
    }

    async fn write_one(&self, context: &ReconcileContext, key: &Key) {
        let workload = context.caches.workloads().cached(key.kind, &key.namespace, &key.name);
        let Some(workload) = workload.filter(|workload| workload.meta().deletion_timestamp.is_none()) else {
            // The profile is deleted with its workload.
            lock(&self.entries).update(key, |entry| entry.due = None);
            return;
        };
        let of = |entry: &Entry| (entry.profile.status(), entry.exists, entry.added, entry.uid.clone());
        let Some((mut status, exists, added, uid)) = lock(&self.entries).get(key).map(of) else { return };
        status.recommendation = recommend(context, key, &uid, status.recommendation);
        let owner = workload.metadata_only().controller_owner_ref(&resource(key.kind));
        let written = write(&context.client, key, owner, &status, exists).await;
        let is_missing = matches!(&written, Err(Error::Api(status)) if status.code == 404);
        lock(&self.entries).update(key, |entry| {
            // The workload was created again meanwhile: its new profile is not written yet.
            if entry.uid != uid {
                return;
            }
            entry.earliest = Instant::now() + WRITE_INTERVAL;
            // A write that is cancelled at shutdown, or misses terminations, is repeated.
            let is_complete = written.is_ok() && entry.added == added;
            entry.due = (!is_complete).then_some(entry.earliest);
            entry.exists = written.is_ok() || entry.exists && !is_missing;
        });
        if let Err(error) = written {
            let Key { kind, namespace, name } = key;
            tracing::warn!(%kind, namespace, name, %error, "cannot write TerminationProfile, retrying");
        }
    }
}

/// Passes the recommendation for a workload to its reconciler. The recommendation to report: none if a policy turns them
/// off.
fn recommend(
    context: &ReconcileContext,
    key: &Key,
    uid: &str,
    recommendation: Option<Recommendation>,
) -> Option<Recommendation> {
    let evaluated = context.index.get(key);
    let mode = evaluated.map(|evaluated| evaluated.desired.recommendations).unwrap_or_default();
    context.recommendations.set(key, uid, recommendation.clone());
    if mode == RecommendationMode::Apply && recommendation.is_some() {
        context.index.requeue_workload(key);
    }
    recommendation.filter(|_| mode != RecommendationMode::Off)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;

    use super::*;
    use crate::{
        controller::{
            terminations::profile_set::tests::{key, termination},
            test_support::context_with,
        },
        index::caches::Caches,
        plan::Kind,
        runtime::test_support::client_of_bodies,
    };

    #[tokio::test(start_paused = true)]
    async fn terminations_for_which_there_are_too_many_profiles_are_counted() {
        let unprofiled = Counter::default();
        let profiles = Profiles::new(unprofiled.clone());
        let add = |name: &str| profiles.add(&key(name), "1", &termination(), |_| true);
        (0..MAX_PENDING + 3).for_each(|_| add("web"));
        assert_eq!(unprofiled.get(), 3, "they wait for the stored profiles");
        *lock(&profiles.pending) = None;
        (0..MAX_PENDING).for_each(|number| add(&number.to_string()));
        let counted = unprofiled.get();
        assert!(counted > 3, "one namespace has no room for all");
        add("0");
        assert_eq!(unprofiled.get(), counted, "it has a profile");
    }

    #[tokio::test(start_paused = true)]
    async fn a_workload_that_is_created_again_during_the_write_is_written_again() {
        for (uid, is_written) in [("1", true), ("2", false)] {
            let profiles = Arc::new(Profiles::new(Counter::default()));
            *lock(&profiles.pending) = None;
            let add = |profiles: &Profiles, uid: &str| {
                profiles.add(&key("web"), uid, &termination(), |_| true);
            };
            let meanwhile = profiles.clone();
            let client = client_of_bodies(move |method, _, _| {
                if *method == Method::PATCH && uid == "2" {
                    add(&meanwhile, uid);
                }
                Some((200, json!({})))
            });
            let web = json!({
                "metadata": {"name": "web", "namespace": "shop", "uid": uid},
                "spec": {"template": {"spec": {"containers": [{"name": "app"}]}}},
            });
            let workload = (Kind::Deployment, serde_json::from_value(web).unwrap());
            let caches = Caches::fixed(vec![], vec![], vec![workload]);
            let (context, _senders) = context_with(client, caches, 1);
            add(&profiles, "1");
            profiles.write_one(&context, &key("web")).await;
            let entries = lock(&profiles.entries);
            let Entry { uid: found, exists, due, .. } = entries.get(&key("web")).unwrap();
            assert_eq!((found.as_str(), *exists, due.is_none()), (uid, is_written, is_written));
        }
    }
}
