//! The termination of a pod whose process ends before its drain.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    figures::row,
    processes::signal,
    support::{Scene, eventually, pods_of, web},
};

/// The native sleep continues although its container has exited; the command `sleep` ends with it
/// (kubernetes#134338).
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_native_sleep_outlasts_its_container_and_the_command_sleep_does_not() {
    let scene = Scene::new().await;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let events: Api<Event> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let mut took = Vec::new();
    for (name, what, hook) in [
        ("native", "the native sleep of 10 s", json!({"sleep": {"seconds": 10}})),
        ("exec", "a command that sleeps for 10 s", json!({"exec": {"command": ["/app", "sleep", "10"]}})),
    ] {
        let mut deployment = web(name, &json!({}));
        deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = json!({"preStop": hook});
        scene.create(&deployment).await;
        scene.rolled_out(name).await;
        let pod = pods_of(&scene, name).await.remove(0);
        let deleted = Instant::now();
        pods.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
        // The kubelet creates this Event right before the hook.
        eventually("the kubelet to stop the container", || async {
            let killing = ListParams::default()
                .fields(&format!("reason=Killing,involvedObject.name={}", pod.name_any()));
            !events.list(&killing).await.unwrap().items.is_empty()
        })
        .await;
        assert!(signal(&pod, Signal::SIGKILL), "its process has ended already");
        eventually("the pod to be gone", || async {
            pods.get_opt(&pod.name_any()).await.unwrap().is_none_or(|now| now.uid() != pod.uid())
        })
        .await;
        let seconds = deleted.elapsed().as_secs_f64();
        row("container-exit", &[what, &format!("{seconds:.1} s")]);
        took.push(seconds);
    }
    assert!(took[0] > took[1], "{took:?}");
    scene.end().await;
}
