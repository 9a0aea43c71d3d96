//! Reviews, and bodies that are expensive to parse.

use adieu::plan::{self, Kind, NamespaceContext, Workload};
use serde_json::{Value, json};

fn deployment(annotations: &Value, env: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
        "spec": {"template": {"spec": {
            "containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 8080}], "env": env}],
        }}},
    })
}

/// A review with fields in the API server's order, so that the uid is first.
fn review(operation: &str, object: &str, old_object: &str) -> String {
    let kind = r#"{"group":"apps","version":"v1","kind":"Deployment"}"#;
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"1","kind":{kind},"namespace":"shop","operation":"{operation}","object":{object},"oldObject":{old_object}}}}}"#
    )
}

/// A review of a Deployment that is being annotated.
fn annotated(env: &Value) -> String {
    let object = |annotations| deployment(&annotations, env).to_string();
    review("UPDATE", &object(json!({"adieu.dev/graceful": "true"})), &object(json!({})))
}

pub fn normal() -> String {
    annotated(&json!([]))
}

/// An update of the largest Deployment that etcd accepts, with a few large values.
pub fn genuine() -> String {
    let variable = |number: usize| json!({"name": format!("V{number}"), "value": "x".repeat(1024)});
    let review = annotated(&(0..1400).map(variable).collect());
    assert!(review.len() > 2 * 1_400_000);
    review
}

/// An update that needs nearly all of a review's limit.
pub fn at_the_limit() -> String {
    let variable = |number: usize| json!({"name": format!("V{number}"), "value": ""});
    annotated(&(0..3000).map(variable).collect())
}

/// A Deployment with a record of this many bytes, a tree of numbers.
fn recorded(bytes: usize) -> String {
    let said = [("adieu.dev/graceful".to_owned(), "true".to_owned())].into();
    let mut object = deployment(&json!(said), &json!([]));
    let workload = Workload::new(Kind::Deployment, &said, &object["spec"]["template"]);
    let mut template = plan::admit(&workload, None, &NamespaceContext::default()).template.unwrap();
    let record = &mut template["metadata"]["annotations"]["adieu.dev/injected"];
    let mut forged: Value = serde_json::from_str(record.as_str().unwrap()).unwrap();
    forged["containers"]["web"]["preStop"]["injected"] = vec![0; bytes / 2 - 1000].into();
    *record = forged.to_string().into();
    object["spec"]["template"] = template;
    object.to_string()
}

/// A review whose hook, of many values under a long key, is restored from the record.
fn under_a_long_key(bytes: usize) -> Vec<u8> {
    let key = "k".repeat((bytes / 10).min(60_000));
    let hook = |item: &str, count: usize| format!(r#"{{"{key}":[{}]}}"#, vec![item; count].join(","));
    let count = (bytes / 20).min(12_000);
    let (injected, before) = (hook("0", count), hook("1", count));
    let record = format!(
        r#"{{"optedInBy":"annotation","settings":{{}},"containers":{{"c":{{"preStop":{{"injected":{injected}}}}}}}}}"#
    );
    let container = format!(r#"{{"name":"c","lifecycle":{{"preStop":{injected}}}}}"#);
    with_record("false", &format!("{record}\n{{\"c\":{before}}}"), &format!("[{container}]"))
}

/// A review of a Deployment with this value of `adieu.dev/graceful`, this record, and these containers.
fn with_record(graceful: &str, record: &str, containers: &str) -> Vec<u8> {
    let record = json!({"adieu.dev/injected": record});
    let template =
        format!(r#"{{"metadata":{{"annotations":{record}}},"spec":{{"containers":{containers}}}}}"#);
    let annotations = json!({"adieu.dev/graceful": graceful});
    let object =
        format!(r#"{{"metadata":{{"annotations":{annotations}}},"spec":{{"template":{template}}}}}"#);
    review("CREATE", &object, "null").into_bytes()
}

/// Reviews of this size with a forged record or name that each of many containers could multiply.
fn multiplied(bytes: usize) -> Vec<(&'static str, Vec<u8>)> {
    let long = "\u{7f}".repeat((bytes / 2).min(200_000));
    let hooked =
        |name: &str| format!(r#"{{"name":"{name}","lifecycle":{{"preStop":{{"sleep":{{"seconds":2}}}}}}}}"#);
    let declaring = |name: &str| format!(r#"{{"name":"{name}","ports":[{{"containerPort":1}}]}}"#);
    let all = |container: &dyn Fn(&str) -> String, count: usize| {
        let containers: Vec<_> = (0..count).map(|number| container(&format!("c{number}"))).collect();
        format!("[{}]", containers.join(","))
    };
    let [few, many] = [450, bytes / 2 / 70];
    let with_record = |record: &Value, containers: &str| with_record("true", &record.to_string(), containers);
    let request = json!({
        "preStopMethod": {"value": "HTTPGet", "from": "command line"},
        "httpGet": {"value": {"path": format!("/{long}"), "port": 1}, "from": "command line"},
    });
    let renamed = json!({"optedInBy": "annotation", "settings": {}, "containers": {
        &long: {"preStop": {"injected": {"sleep": {"seconds": 2}}}},
    }});
    let short = json!({"optedInBy": "annotation", "settings": {}, "containers": {
        "a": {"preStop": {"injected": {"sleep": {"seconds": 2}}}},
    }});
    let rendered = json!({"optedInBy": "command line", "rendered": true, "settings": request});
    vec![
        ("renamed containers", with_record(&renamed, &all(&hooked, few))),
        ("more renamed containers", with_record(&renamed, &all(&hooked, many))),
        ("a path for each container", with_record(&rendered, &all(&declaring, few))),
        ("a path for each of more containers", with_record(&rendered, &all(&declaring, many))),
        (
            "a script",
            in_template(&format!(
                r#"[{{"name":"c","lifecycle":{{"preStop":{{"exec":{{"command":["sh","-c",{}]}}}}}}}}]"#,
                string(bytes, "a;")
            )),
        ),
        (
            "commas",
            with_annotations(&format!(
                r#""adieu.dev/graceful":"true","adieu.dev/exclude-containers":{}"#,
                string(bytes, ",")
            )),
        ),
        ("a long key in a hook", under_a_long_key(bytes)),
        (
            "a long name with the injection of another",
            with_record(&short, &format!("[{}]", hooked(&"\u{7f}".repeat(bytes - 4000)))),
        ),
    ]
}

/// An update without a field manager that removes a large annotation, which is restored: the answer is larger than the
/// request.
pub fn restoring() -> String {
    let object = |graceful: Value, drain: usize| {
        let mut object = deployment(&json!({"deployment.kubernetes.io/revision": "1"}), &json!([]));
        object["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .extend(graceful.as_object().unwrap().clone());
        object["spec"]["template"]["spec"]["activeDeadlineSeconds"] = drain.into();
        object.to_string()
    };
    review("UPDATE", &object(json!({}), 1), &object(json!({"adieu.dev/x": "x".repeat(1_400_000)}), 2))
}

fn list(bytes: usize, item: &str) -> String {
    format!("[{}{item}]", format!("{item},").repeat(bytes / (item.len() + 1) - 300))
}

fn string(bytes: usize, part: &str) -> String {
    format!("\"{}\"", part.repeat(bytes / part.len() - 300))
}

/// A review of a Deployment with these containers.
fn in_template(containers: &str) -> Vec<u8> {
    let annotations = r#"{"adieu.dev/graceful":"true"}"#;
    let template = format!(r#"{{"spec":{{"containers":{containers}}}}}"#);
    let object =
        format!(r#"{{"metadata":{{"annotations":{annotations}}},"spec":{{"template":{template}}}}}"#);
    review("CREATE", &object, "null").into_bytes()
}

/// A review of a Deployment with these annotations.
fn with_annotations(annotations: &str) -> Vec<u8> {
    let object = format!(r#"{{"metadata":{{"annotations":{{{annotations}}}}}}}"#);
    review("CREATE", &object, "null").into_bytes()
}

/// Reviews of this size that are the most expensive to parse.
fn hostile_containers(bytes: usize) -> Vec<(&'static str, Vec<u8>)> {
    let list = |item: &str| list(bytes, item);
    let keys: Vec<_> = (0..bytes / 13).map(|number| format!("\"{number:08}\":0")).collect();
    let named: Vec<_> = (0..bytes / 2 / 24).map(|number| format!(r#"{{"name":"c{number:08}"}}"#)).collect();
    let many_containers = format!("[{}]", named[..named.len() * 2 / 5].join(","));
    let names: Vec<_> = (0..bytes / 2 / 10).map(|number| format!("{number:08}")).collect();
    let excluding = String::from_utf8(in_template(&many_containers)).unwrap().replace(
        r#""adieu.dev/graceful""#,
        &format!(r#""adieu.dev/exclude-containers":"{}","adieu.dev/graceful""#, names.join(",")),
    );
    let mut cut = in_template(&string(bytes, "x"));
    let end = cut.len() - 200;
    cut[end] = 0xff;
    vec![
        ("numbers", in_template(&list("0"))),
        ("empty strings", in_template(&list("\"\""))),
        ("empty arrays", in_template(&list("[]"))),
        ("arrays of one", in_template(&list("[0]"))),
        ("objects", in_template(&list(r#"{"a":1}"#))),
        ("keys", in_template(&format!("[{{{}}}]", keys.join(",")))),
        (
            "the same key repeatedly",
            in_template(&format!("[{{{}}}]", list("\"a\":0").trim_matches(['[', ']']))),
        ),
        ("nesting", in_template(&format!("{}{}", "[".repeat(bytes / 2 - 300), "]".repeat(bytes / 2 - 300)))),
        ("nesting without an end", in_template(&"[".repeat(bytes - 600))),
        ("a string", in_template(&string(bytes, "x"))),
        ("escapes", in_template(&string(bytes, "\\u0001"))),
        ("a huge number", in_template(&"9".repeat(bytes - 600))),
        ("invalid UTF-8 at the end", cut),
        ("many containers", in_template(&many_containers)),
        ("many of them excluded", excluding.into()),
    ]
}

/// The most expensive bodies of this size.
pub fn hostile(bytes: usize) -> Vec<(&'static str, Vec<u8>)> {
    let outside =
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","object":{"a":"#;
    let escaped = string(bytes, "\\n");
    let keys: Vec<_> = (0..bytes / 13).map(|number| format!("\"{number:08}\":\"\"")).collect();
    let own_keys: Vec<_> = (0..bytes / 27).map(|number| format!("\"adieu.dev/{number:08}\":\"\"")).collect();
    let malformed = format!(r#""adieu.dev/graceful":{}"#, string(bytes, "\u{7f}"));
    let mut bodies = hostile_containers(bytes);
    bodies.extend(multiplied(bytes));
    bodies.extend([
        ("numbers outside of a Deployment", format!("{outside}{}}}}}}}", list(bytes, "0")).into_bytes()),
        (
            "a kind of escapes",
            review("CREATE", "{}", "null").replace("Deployment", escaped.trim_matches('"')).into(),
        ),
        ("a request that is a string", format!(r#"{{"request":{}}}"#, string(bytes, "\\u0001")).into_bytes()),
        ("annotations", with_annotations(&keys.join(","))),
        ("spaces", vec![b' '; bytes]),
        ("a record of numbers", review("CREATE", &recorded(bytes), "null").into()),
        ("two records of numbers", review("UPDATE", &recorded(bytes / 2), &recorded(bytes / 2 - 2)).into()),
        ("unknown annotations of adieu", with_annotations(&own_keys.join(","))),
        ("a malformed value to be escaped", with_annotations(&malformed)),
        ("no JSON", vec![b'\\'; bytes]),
    ]);
    bodies
}
