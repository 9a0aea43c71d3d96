//! What a canary reports about the requests that arrive at it: in its responses, and in its log.

use std::{
    fmt::{self, Display, Formatter},
    net::IpAddr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::stream::Stream;

/// The response header with the [`Mark`].
pub const MARK_HEADER: &str = "x-adieu-canary";

/// What separates the pod from the time since its SIGTERM, in milliseconds.
const TERMINATING: &str = ";terminating-ms=";

/// The canary that a request arrived at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its pod.
    pub pod: String,
    /// The time from its SIGTERM to the arrival, in whole milliseconds; `None` before SIGTERM.
    pub terminating_for: Option<Duration>,
}

impl Mark {
    /// Reads the value of the header; `None` if it isn't from a canary.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (pod, millis) = match text.split_once(TERMINATING) {
            Some((pod, millis)) => (pod, Some(millis.parse().ok()?)),
            None => (text, None),
        };
        let is_pod = !pod.is_empty() && !pod.contains(';');
        is_pod.then(|| Self { pod: pod.to_owned(), terminating_for: millis.map(Duration::from_millis) })
    }
}

impl Display for Mark {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pod)?;
        match self.terminating_for {
            Some(time) => write!(f, "{TERMINATING}{}", time.as_millis()),
            None => Ok(()),
        }
    }
}

/// A line of a canary's log, as JSON: a request that arrived after SIGTERM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedArrival {
    /// The load that it is of.
    #[serde(flatten)]
    pub stream: Stream,
    /// Milliseconds since SIGTERM, on a monotonic clock.
    pub after_millis: u64,
    /// The time on the node's clock.
    pub time: String,
    /// The address that it came from: a client's, a node's or a proxy's.
    pub from: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Connections;

    #[test]
    fn a_mark_round_trips_as_a_header() {
        for (text, pod, millis) in
            [("canary-1", "canary-1", None), ("canary-1;terminating-ms=1234", "canary-1", Some(1234))]
        {
            let mark = Mark { pod: pod.to_owned(), terminating_for: millis.map(Duration::from_millis) };
            assert_eq!(mark.to_string(), text);
            assert_eq!(Mark::parse(text), Some(mark));
        }
        for text in ["", ";terminating-ms=1", "canary;terminating-ms=", "canary;terminating-ms=-1", "a;b"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_line_of_the_log_round_trips_as_json() {
        let arrival = LoggedArrival {
            stream: Stream { way: 1, connections: Connections::Kept },
            after_millis: 250,
            time: "2026-01-31T12:00:00Z".to_owned(),
            from: [10, 0, 0, 1].into(),
        };
        let text = serde_json::to_string(&arrival).unwrap();
        let expected = r#"{"way":1,"connections":"kept","afterMillis":250,"time":"2026-01-31T12:00:00Z","from":"10.0.0.1"}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<LoggedArrival>(&text).unwrap(), arrival);
    }
}
