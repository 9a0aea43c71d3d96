//! Events on objects that can't be used.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::runtime::{caches::changes, unusable::Reason};

/// How long changes are let come together.
const TOGETHER: Duration = Duration::from_secs(1);

/// Publishes an Event for each object that can't be used, once for each reason, while this replica leads; until
/// `shutdown`.
pub(super) async fn report(context: Arc<Context>, shutdown: CancellationToken) {
    let unusable = context.caches.unusable();
    let mut changed = stream::select(changes(unusable.changed()).boxed(), context.permissions().boxed());
    let mut told: HashMap<String, Reason> = HashMap::new();
    let report = async {
        loop {
            if context.leads() {
                let all = unusable.all();
                let uids: HashSet<_> = all.iter().filter_map(|one| one.reference.uid.as_ref()).collect();
                told.retain(|uid, _| uids.contains(uid));
                for one in &all {
                    let uid = one.reference.uid.clone().unwrap_or_default();
                    if told.get(&uid) != Some(&one.reason) {
                        context.outbox.unusable(&one.reference, &one.reason);
                        told.insert(uid, one.reason.clone());
                    }
                }
            } else {
                told.clear();
            }
            if changed.next().await.is_none() {
                return;
            }
            sleep(TOGETHER).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = report => {}
    }
}
