//! An API server that lists any number of objects.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use axum::body::Body as Answer;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

/// Some objects of one kind, in chunks, by their number.
type Objects = Arc<dyn Fn(usize) -> Vec<Bytes> + Send + Sync>;

/// An API server with these objects, in pages and in chunks, whose watches have no events.
#[derive(Clone, Default)]
pub struct ApiServer(HashMap<&'static str, Vec<(usize, Objects)>>);

impl ApiServer {
    /// A server that lists these objects of the path after others.
    pub fn with(
        mut self,
        path: &'static str,
        count: usize,
        object: impl Fn(usize) -> Vec<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.0.entry(path).or_default().push((count, Arc::new(object)));
        self
    }

    /// The chunks of an object of a path.
    fn object(&self, path: &str, mut number: usize) -> Vec<Bytes> {
        for (count, object) in &self.0[path] {
            if number < *count {
                return object(number);
            }
            number -= count;
        }
        vec![]
    }

    pub fn answer(&self, target: &str) -> Answer {
        if target == "/version" {
            let version = json!({"major": "1", "minor": "40", "gitVersion": "", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
            return Answer::from(version.to_string());
        }
        if let Some(discovered) = discovery(target) {
            return Answer::from(discovered.to_string());
        }
        if target.contains("watch=") {
            return Answer::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        }
        let number_of = |key: &str| {
            let value = target.split(['?', '&']).find_map(|parameter| parameter.strip_prefix(key))?;
            value.parse::<usize>().ok()
        };
        let path = target.split('?').next().unwrap().to_owned();
        let total: usize = self.0.get(path.as_str()).into_iter().flatten().map(|(count, _)| count).sum();
        let (first, limit) = (number_of("continue=").unwrap_or(0), number_of("limit=").unwrap());
        let last = total.min(first + limit);
        let after = if last < total { last.to_string() } else { String::new() };
        let metadata = json!({"resourceVersion": "7", "continue": after});
        let server = self.clone();
        let items = stream::iter(first..last).flat_map(move |number| {
            let comma = if number == first { "" } else { "," };
            stream::iter([Bytes::from(comma)].into_iter().chain(server.object(&path, number)))
        });
        let begin = Bytes::from(format!(r#"{{"metadata":{metadata},"items":["#));
        let list = stream::iter([begin]).chain(items).chain(stream::iter([Bytes::from("]}")]));
        Answer::from_stream(list.map(Ok::<_, Infallible>))
    }
}

/// The kinds that lead requests to Services: only Ingresses.
fn discovery(target: &str) -> Option<Value> {
    let version = json!({"groupVersion": "networking.k8s.io/v1", "version": "v1"});
    let group = json!({"name": "networking.k8s.io", "versions": [version]});
    let verbs = json!(["list", "watch"]);
    let ingresses = json!({"kind": "Ingress", "name": "ingresses", "namespaced": true, "singularName": "", "verbs": verbs});
    match target {
        "/apis" => Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})),
        "/apis/networking.k8s.io/v1" => Some(json!({"kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": "networking.k8s.io/v1", "resources": [ingresses]})),
        _ => None,
    }
}
