//! Runs the load as a Job in the cluster, where Services are reachable by their cluster IP.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{batch::v1::Job as Object, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, LogParams, PostParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    error::Error,
    owner::Owner,
    pod_security::{container_security, pod_security},
};
use crate::{
    load::Options,
    verify::{Alignment, Line, Measurements, Sample},
};

/// The label with the name of an application.
pub(super) const NAME: &str = "app.kubernetes.io/name";
/// Not the operator's name, so that the selectors of its Services and of the guard don't match the load.
const LOAD: &str = "adieu-verify";
/// How long a finished Job is kept if it isn't removed.
const TTL_SECONDS: u64 = 60;
/// The characters of a line of its log that are shown.
const MAX_LINE: usize = 1000;
/// The reasons of waiting containers that don't start without a change.
const STUCK: [&str; 5] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
];

/// The image of a load's pod.
#[derive(Clone, Debug)]
pub struct Image {
    /// adieu's image.
    pub name: String,
    /// The pull Secret in the pod's namespace, if the registry requires one.
    pub pull_secret: Option<String>,
}

/// A load that runs in the cluster. Call [`Job::remove`] in any case; if that fails, the Job's deadline ends it.
#[derive(Clone, Debug)]
pub struct Job {
    api: Api<Object>,
    pods: Api<Pod>,
    name: String,
}

impl Job {
    /// Creates the Job, with `limit` as its deadline.
    ///
    /// # Errors
    /// The request fails.
    pub async fn start(
        client: &Client,
        namespace: &str,
        image: &Image,
        options: &Options,
        limit: Duration,
    ) -> Result<Self, Error> {
        Self::create(client, namespace, object(image, options, limit)).await
    }

    /// The same, owned by another Job, with which it is removed.
    ///
    /// # Errors
    /// The request fails.
    pub async fn start_owned(
        client: &Client,
        owner: &Owner,
        image: &Image,
        options: &Options,
        limit: Duration,
    ) -> Result<Self, Error> {
        let mut object = object(image, options, limit);
        object["metadata"]["ownerReferences"] = json!([owner.reference()]);
        Self::create(client, &owner.namespace, object).await
    }

    async fn create(client: &Client, namespace: &str, object: serde_json::Value) -> Result<Self, Error> {
        let api: Api<Object> = Api::namespaced(client.clone(), namespace);
        let job = serde_json::from_value(object).map_err(|error| Error::Remote(error.to_string()))?;
        let created = api.create(&PostParams::default(), &job).await;
        let name = created.map_err(Error::api("create the load Job"))?.name_any();
        Ok(Self { api, pods: Api::namespaced(client.clone(), namespace), name })
    }

    /// Follows it until `stop`, and returns its measurements in times from `origin`; `sink` gets each sample as it
    /// arrives. To stop it, the Job is removed, and its pod ends the load in order.
    ///
    /// The result is an error if the load doesn't start, ends early or can't be stopped. The measurements until then are
    /// returned all the same.
    pub async fn follow(
        &self,
        origin: Instant,
        stop: CancellationToken,
        mut sink: impl FnMut(&Sample),
    ) -> (Measurements, Result<(), Error>) {
        let Measurements { mut samples, mut observations } = Measurements::default();
        let mut alignment = Alignment::default();
        let receive = |line| match line {
            Line::Samples { now_micros, samples: more } => {
                alignment.learn(Duration::from_micros(now_micros), origin.elapsed());
                more.iter().for_each(&mut sink);
                samples.extend(more);
            }
            Line::Observations(more) => observations.extend(more),
            Line::End => {}
        };
        let ended = self.read(stop, receive).await;
        alignment.apply(&mut samples, &mut observations);
        (Measurements { samples, observations }, ended)
    }

    /// Reads the log until its last line. `receive` gets the others.
    async fn read(&self, stop: CancellationToken, mut receive: impl FnMut(Line)) -> Result<(), Error> {
        let Some(pod) = stop.run_until_cancelled(self.started()).await.transpose()? else {
            return Ok(());
        };
        let follow = LogParams { follow: true, ..LogParams::default() };
        let log =
            self.pods.log_stream(&pod, &follow).await.map_err(Error::api("follow the log of the load"))?;
        let mut lines = pin!(log.lines());
        let mut stopped = false;
        loop {
            let line = tokio::select! {
                line = lines.try_next() => line,
                () = stop.cancelled(), if !stopped => {
                    stopped = true;
                    self.remove().await?;
                    continue;
                }
            };
            let line = line.map_err(|error| Error::Remote(format!("cannot read its log: {error}")))?;
            let Some(line) = line else {
                return Err(Error::Remote("its log ended before the load did".to_owned()));
            };
            match serde_json::from_str(&line) {
                Ok(Line::End) if stopped => return Ok(()),
                Ok(Line::End) => return Err(Error::Remote("it was stopped by another client".to_owned())),
                Ok(line) => receive(line),
                // Standard error of the load.
                Err(_) => return Err(Error::Remote(printable(&line))),
            }
        }
    }

    /// Removes the Job and its pod, if they exist.
    ///
    /// # Errors
    /// The request fails.
    pub async fn remove(&self) -> Result<(), Error> {
        match self.api.delete(&self.name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            outcome => outcome.map(drop).map_err(Error::api(format!("delete the Job {}", self.name))),
        }
    }

    /// Waits until its pod runs, and returns the pod's name. Watch errors are retried.
    async fn started(&self) -> Result<String, Error> {
        let selected =
            watcher::Config::default().labels(&format!("batch.kubernetes.io/job-name={}", self.name));
        let pods = watcher(self.pods.clone(), selected).default_backoff().applied_objects();
        let mut pods = pin!(pods);
        while let Some(pod) = pods.next().await {
            let Ok(pod) = pod else { continue };
            if has_started(&pod)? {
                return Ok(pod.name_any());
            }
        }
        Err(Error::Remote("the watch of its pod ended".to_owned()))
    }
}

/// The beginning of a line without what a terminal would interpret: another pod may have the labels of the load's.
fn printable(line: &str) -> String {
    line.chars().filter(|character| !character.is_control()).take(MAX_LINE).collect()
}

/// Whether a pod is a load's.
pub(super) fn is_load(pod: &Pod) -> bool {
    pod.labels().get(NAME).is_some_and(|name| name == LOAD)
}

/// The labels of a load.
pub(super) fn labels() -> BTreeMap<&'static str, &'static str> {
    [(NAME, LOAD)].into()
}

fn object(image: &Image, options: &Options, limit: Duration) -> serde_json::Value {
    // The kubelet replaces $(NAME) in arguments, and $$ by $.
    let pull_secrets: Vec<_> = image.pull_secret.iter().map(|name| json!({"name": name})).collect();
    let options_text = json!(options).to_string().replace('$', "$$");
    json!({
        "metadata": {"generateName": format!("{LOAD}-"), "labels": labels()},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": limit.as_secs().max(1),
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "template": {
                "metadata": {"labels": labels()},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "imagePullSecrets": pull_secrets,
                    // On SIGTERM it waits for outstanding answers.
                    "terminationGracePeriodSeconds": options.timeout.as_secs() + 5,
                    "securityContext": pod_security(),
                    "containers": [{
                        "name": "load",
                        "image": image.name,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["load", options_text],
                        "resources": {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
                        "securityContext": container_security(),
                    }],
                },
            },
        },
    })
}

/// Whether the load's container has started. It is an error if it can't.
fn has_started(pod: &Pod) -> Result<bool, Error> {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let state = containers.and_then(|all| all.iter().find(|c| c.name == "load")?.state.as_ref());
    let Some(state) = state else { return Ok(false) };
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if STUCK.contains(&reason) {
            let message = waiting.message.as_deref().unwrap_or("no message");
            return Err(Error::Remote(format!("its container does not start: {reason}: {message}")));
        }
    }
    Ok(state.running.is_some() || state.terminated.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        runtime::test_support::{client, flaky},
        verify::Outcome,
    };

    fn options() -> Options {
        Options { data: Some("costs $(PRICE)".to_owned()), ..Options::to("http://web") }
    }

    fn job(client: Client) -> Job {
        let (api, pods) = (Api::namespaced(client.clone(), "shop"), Api::namespaced(client, "shop"));
        Job { api, pods, name: "load".to_owned() }
    }

    /// The pod of a running load.
    fn running() -> Value {
        let container = json!({
            "name": "load", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}});
        json!({"metadata": {"name": "load-1"}, "status": {"containerStatuses": [container]}})
    }

    #[test]
    fn the_load_is_a_restricted_job_with_a_deadline() {
        let image = Image { name: "adieu:1".to_owned(), pull_secret: Some("registry".to_owned()) };
        let object = object(&image, &options(), Duration::from_secs(90));
        let job: Object = serde_json::from_value(object).unwrap();
        let spec = job.spec.unwrap();
        assert_eq!((spec.active_deadline_seconds, spec.backoff_limit), (Some(90), Some(0)));
        assert_eq!(spec.ttl_seconds_after_finished, Some(60));
        let pod = spec.template.spec.unwrap();
        assert_eq!(pod.automount_service_account_token, Some(false));
        assert_eq!(pod.containers[0].image.as_deref(), Some("adieu:1"));
        assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "registry");
        assert_eq!(pod.termination_grace_period_seconds, Some(15));
        assert!(pod.containers[0].args.as_ref().unwrap()[1].contains("$$(PRICE)"));
        let read: Options =
            serde_json::from_str(&pod.containers[0].args.as_ref().unwrap()[1].replace("$$", "$")).unwrap();
        assert_eq!(read, options());
    }

    #[tokio::test]
    async fn samples_before_an_error_are_kept() {
        let client = client(|_, target| {
            let pods = json!({"metadata": {"resourceVersion": "1"}, "items": [running()]});
            let sample = Sample {
                due: Duration::from_millis(1),
                took: Duration::from_millis(1),
                connecting: Duration::ZERO,
                outcome: Outcome::Answered(200),
                pod: None,
                peer: None,
            };
            let log = json!(Line::Samples { now_micros: 2000, samples: vec![sample] });
            Some((200, if target.contains("/log?") { log } else { pods }))
        });
        let mut received = 0;
        let (measured, ended) =
            job(client).follow(Instant::now(), CancellationToken::new(), |_| received += 1).await;
        assert_eq!((measured.samples.len(), received), (1, 1));
        let error = ended.unwrap_err().to_string();
        assert!(error.contains("its log ended before the load did"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_pod_survives_watch_errors() {
        assert_eq!(job(flaky(json!([running()]))).started().await.unwrap(), "load-1");
    }

    #[test]
    fn a_line_of_the_log_is_shown_without_what_a_terminal_would_interpret() {
        assert_eq!(printable("no \u{1b}[2Jroute\r"), "no [2Jroute");
        assert_eq!(printable(&"é".repeat(2 * MAX_LINE)), "é".repeat(MAX_LINE));
    }

    #[test]
    fn a_container_that_cannot_start_is_an_error_with_its_reason() {
        let pod = |state: Value| -> Pod {
            let status = json!({"containerStatuses": [{
                "name": "load", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]});
            serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap()
        };
        assert!(!has_started(&pod(json!({"waiting": {"reason": "ContainerCreating"}}))).unwrap());
        assert!(has_started(&pod(json!({"running": {}}))).unwrap());
        let stuck = pod(json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}}));
        let error = has_started(&stuck).unwrap_err().to_string();
        assert!(error.contains("ErrImagePull: no such image"), "{error}");
    }
}
