//! Compression of cached text.
//!
//! A Deployment has some 2 KiB of text, and most of it is the same in all: names of fields, and defaults. Matches in a
//! dictionary with these make it some 400 bytes; without one it would be 1400, because a single text repeats little.

use std::sync::Arc;

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};

/// Metadata, spec and status in the order of the API server, with usual values. Nothing outside of this process is
/// compressed with it, so it may change at any time.
const DICTIONARY: &str = concat!(
    r#"{"annotations":{"deployment.kubernetes.io/revision":"1","meta.helm.sh/release-name":"","#,
    r#""meta.helm.sh/release-namespace":""},"labels":{"app":"","app.kubernetes.io/instance":"","#,
    r#""app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"","app.kubernetes.io/version":"","#,
    r#""helm.sh/chart":""}}{"spec":{"replicas":1,"selector":{"matchLabels":{"app":""}},"#,
    r#""template":{"metadata":{"labels":{"adieu.dev/injection":"enabled","app":""},"#,
    r#""annotations":{"adieu.dev/injected":"{\"optedInBy\":\"annotation\",\"settings\":{},"#,
    r#"\"gracePeriod\":{\"injected\":45,\"before\":30},"#,
    r#"\"containers\":{\"web\":{\"preStop\":{\"injected\":{\"sleep\":{\"seconds\":10}}},"#,
    r#"\"lifecycle\":\"absent\"}},\"labels\":\"object\",\"annotations\":\"absent\"}"}},"#,
    r#""spec":{"volumes":[{"name":"","configMap":{"name":"","defaultMode":420}},{"name":"","#,
    r#""secret":{"secretName":"","defaultMode":420}}],"containers":[{"name":"","image":"","#,
    r#""ports":[{"name":"http","containerPort":8080,"protocol":"TCP"}],"env":[{"name":"","value":""},"#,
    r#"{"name":"","valueFrom":{"secretKeyRef":{"name":"","key":""}}}],"resources":{"limits":{"cpu":"1","#,
    r#""memory":"256Mi"},"requests":{"cpu":"100m","memory":"128Mi"}},"volumeMounts":[{"name":"","#,
    r#""readOnly":true,"mountPath":"/"}],"livenessProbe":{"httpGet":{"path":"/healthz","port":8080,"#,
    r#""scheme":"HTTP"},"initialDelaySeconds":5,"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"#,
    r#""failureThreshold":3},"readinessProbe":{"httpGet":{"path":"/healthz","port":"http","scheme":"HTTP"},"#,
    r#""timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},"#,
    r#""lifecycle":{"preStop":{"sleep":{"seconds":10}}},"terminationMessagePath":"/dev/termination-log","#,
    r#""terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent","#,
    r#""securityContext":{"capabilities":{"drop":["ALL"]},"runAsNonRoot":true,"#,
    r#""readOnlyRootFilesystem":true,"allowPrivilegeEscalation":false}}],"restartPolicy":"Always","#,
    r#""terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"","#,
    r#""serviceAccount":"","securityContext":{},"schedulerName":"default-scheduler"}},"#,
    r#""strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"25%","maxSurge":"25%"}},"#,
    r#""revisionHistoryLimit":10,"progressDeadlineSeconds":600},"status":{"observedGeneration":1,"#,
    r#""replicas":1,"updatedReplicas":1,"readyReplicas":1,"availableReplicas":1,"#,
    r#""conditions":[{"type":"Available","status":"True","lastUpdateTime":"2026-01-01T00:00:00Z","#,
    r#""lastTransitionTime":"2026-01-01T00:00:00Z","reason":"MinimumReplicasAvailable","#,
    r#""message":"Deployment has minimum availability."},{"type":"Progressing","status":"True","#,
    r#""lastUpdateTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:00:00Z","#,
    r#""reason":"NewReplicaSetAvailable","message":"ReplicaSet \"\" has successfully progressed."}]}}"#,
);

/// Compresses a text.
pub(super) fn compress(text: &str) -> Arc<[u8]> {
    compress_prepend_size_with_dict(text.as_bytes(), DICTIONARY.as_bytes()).into()
}

/// The text that was compressed.
pub(super) fn decompress(compressed: &[u8]) -> Vec<u8> {
    decompress_size_prepended_with_dict(compressed, DICTIONARY.as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn usual_text_takes_a_fraction() {
        let container = json!({
            "name": "app", "image": "registry.example.com/shop/checkout:1.2.3",
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "env": [{"name": "LOG_LEVEL", "value": "info"}],
            "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "16Mi"}},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "imagePullPolicy": "Always",
        });
        let pod = json!({
            "containers": [container], "restartPolicy": "Always", "terminationGracePeriodSeconds": 60,
            "dnsPolicy": "ClusterFirst", "securityContext": {}, "schedulerName": "default-scheduler",
        });
        let spec = json!({
            "replicas": 3, "selector": {"matchLabels": {"app": "checkout"}},
            "template": {"metadata": {"labels": {"app": "checkout"}}, "spec": pod},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
        });
        let text = json!({ "spec": spec }).to_string();
        let compressed = compress(&text);
        assert_eq!(decompress(&compressed), text.as_bytes());
        assert!(2 * compressed.len() < text.len(), "{} of {}", compressed.len(), text.len());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_decompressed(
            parts in proptest::collection::vec((0..DICTIONARY.len(), 0..200_usize, "\\PC{0,40}"), 0..40),
        ) {
            let known = |from: usize, length: usize| DICTIONARY.get(from..from + length).unwrap_or_default();
            let parts = parts.iter().flat_map(|(from, length, other)| [known(*from, *length), other.as_str()]);
            let text: String = parts.collect();
            proptest::prop_assert_eq!(decompress(&compress(&text)), text.as_bytes());
        }
    }
}
