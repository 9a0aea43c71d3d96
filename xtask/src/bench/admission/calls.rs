//! Calls of webhooks, from the API server's metrics.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use http::Request;
use kube::Client;
use serde::Serialize;

use super::arms::{ARMS, Arm};

/// Calls of a webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Calls {
    /// How many.
    pub count: u64,
    /// The API server's time for all of them, including patching.
    pub seconds: f64,
}

/// The calls of webhooks, by name.
#[derive(Debug, Default)]
pub struct AllCalls(BTreeMap<String, Calls>);

impl AllCalls {
    /// Reads how often the API server has called each webhook, and how long it waited.
    pub async fn fetch(client: &Client) -> Result<Self> {
        let metrics = client.request_text(Request::get("/metrics").body(Vec::new())?).await;
        Ok(Self::parse(&metrics.context("cannot read the API server's metrics")?))
    }

    /// The calls of one webhook.
    pub fn of(&self, webhook: &str) -> Calls {
        self.0.get(webhook).copied().unwrap_or_default()
    }

    /// Parses the API server's metrics.
    fn parse(metrics: &str) -> Self {
        const PREFIX: &str = "apiserver_admission_webhook_admission_duration_seconds_";
        let mut all = BTreeMap::<String, Calls>::new();
        for line in metrics.lines().filter_map(|line| line.strip_prefix(PREFIX)) {
            let name = line.split_once("name=\"").and_then(|(_, rest)| rest.split_once('"'));
            let value = line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
            let (Some((name, _)), Some(value)) = (name, value) else { continue };
            let calls = all.entry(name.to_owned()).or_default();
            if line.starts_with("sum{") {
                calls.seconds += value;
            } else if line.starts_with("count{") {
                // Counters are written as floating-point numbers.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let count = value as u64;
                calls.count += count;
            }
        }
        Self(all)
    }

    pub fn since(&self, earlier: &Self) -> Self {
        let difference = |(name, calls): (&String, &Calls)| {
            let before = earlier.0.get(name).copied().unwrap_or_default();
            let count = calls.count.saturating_sub(before.count);
            (name.clone(), Calls { count, seconds: calls.seconds - before.seconds })
        };
        Self(self.0.iter().map(difference).collect())
    }

    /// The calls of the arms with a webhook.
    pub fn of_webhooks(&self) -> impl Iterator<Item = (Arm, Calls)> {
        ARMS.into_iter().filter_map(|arm| Some((arm, self.of(arm.webhook()?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = r#"# TYPE apiserver_admission_webhook_admission_duration_seconds histogram
apiserver_admission_webhook_admission_duration_seconds_bucket{name="annotated.adieu.dev",operation="CREATE",rejected="false",type="admit",le="+Inf"} 7
apiserver_admission_webhook_admission_duration_seconds_sum{name="annotated.adieu.dev",operation="CREATE",rejected="false",type="admit"} 0.5
apiserver_admission_webhook_admission_duration_seconds_count{name="annotated.adieu.dev",operation="CREATE",rejected="false",type="admit"} 7
apiserver_admission_webhook_admission_duration_seconds_sum{name="annotated.adieu.dev",operation="UPDATE",rejected="false",type="admit"} 0.25
apiserver_admission_webhook_admission_duration_seconds_count{name="annotated.adieu.dev",operation="UPDATE",rejected="false",type="admit"} 2
apiserver_admission_webhook_request_total{name="noop.adieu-bench.svc"} 99
"#;

    #[test]
    fn calls_are_read_from_the_metrics_and_counted_from_an_earlier_reading() {
        let all = AllCalls::parse(METRICS);
        let of = |all: &AllCalls| all.of_webhooks().collect::<Vec<_>>();
        assert_eq!(
            of(&all),
            [
                (Arm::Noop, Calls::default()),
                (Arm::Patch, Calls::default()),
                (Arm::Condition, Calls::default()),
                (Arm::Adieu, Calls { count: 9, seconds: 0.75 }),
                (Arm::Labelled, Calls::default()),
            ]
        );
        let later = AllCalls::parse(&METRICS.replace("} 7", "} 10").replace("} 0.5", "} 0.75"));
        assert_eq!(of(&later.since(&all))[3], (Arm::Adieu, Calls { count: 3, seconds: 0.25 }));
    }
}
