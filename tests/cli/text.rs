//! The text of manifests that stays unchanged.

use serde_json::json;

use crate::{
    inject, revert,
    support::{documents, succeed},
};

/// A Deployment with this pod template, after its key.
fn deployment(template: &str) -> String {
    format!(
        "# Team: payments.\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: settle   # one per region\n  annotations: {{adieu.dev/graceful: \"true\"}}\nspec:\n  # three zones\n  replicas: 3\n  selector: {{matchLabels: {{app: settle}}}}\n  template:{template}"
    )
}

/// Injects, and checks that no line is lost or moved, and that reverting restores every byte.
fn keeps_every_line(input: &str) -> String {
    let injected = inject(input);
    assert_ne!(injected, input);
    let mut lines = injected.lines();
    for line in input.lines() {
        assert!(lines.any(|injected| injected == line), "{line:?} is missing in\n{injected}");
    }
    assert_eq!(revert(&injected), input);
    assert_eq!(inject(&injected), injected);
    injected
}

#[test]
fn block_scalars_leave_the_rest_of_the_document_unchanged() {
    let end_of_container = "
    metadata:
      labels:
        app: settle   # the Service selects it
      annotations:
        secrets.example/template: |
          {{ with secret \"db\" }}{{ .password }}{{ end }}
    spec:
      containers:
        # waits for its secrets
        - name: settle
          image: registry.example/settle:12   # pinned
          command: [sh, -c]
          args:
            - |
              . /secrets/env

              exec settle
        - name: side   # beside
          args:
            - >-
              --long
              --longer

      # as ever
      restartPolicy: Always   # really
";
    for script in ["- |", "- |-", "- |+", "- >", "- >-", "- |2", "- | # sh"] {
        let input = deployment(end_of_container).replacen("- |", script, 1);
        let injected = keeps_every_line(&input);
        let spec = &documents(&injected)[0]["spec"]["template"]["spec"];
        for container in spec["containers"].as_array().unwrap() {
            assert_eq!(container["lifecycle"]["preStop"], json!({"sleep": {"seconds": 10}}), "{injected}");
        }
        keeps_every_line(&input.replace('\n', "\r\n"));
        // At the end of the document, with and without its last line end.
        let last = input.replace("\n      # as ever\n      restartPolicy: Always   # really\n", "");
        keeps_every_line(&last);
        keeps_every_line(&format!("{last}---\nkind: ConfigMap\napiVersion: v1\n"));
        keeps_every_line(last.trim_end());
    }
}

#[test]
fn comments_after_braces_stay_and_braces_are_restored() {
    for template in [
        "
    metadata: {labels: {app: settle}}   # the Service selects it
    spec:
      containers:
        - name: settle
          lifecycle: {}   # nothing yet
",
        "
    metadata: { labels: { app: settle }, }   # a comma at the end
    spec:
      containers: [{name: settle, image: registry.example/settle:1}]   # one
      terminationGracePeriodSeconds: 30   # as ever
",
        "
    metadata:
      annotations: null   # none
      labels:
        app: settle
    spec:
      containers:
        - name: settle
          lifecycle:   # nothing yet
",
        "
    metadata: {
      labels: {app: settle}, # these stay
      annotations: {}        # none yet
    }
    spec: {
      containers: [
        {name: settle}, # the first
        {
          name: side, # beside
          image: side # pinned
        }
      ],
      restartPolicy: Always, # as ever
    } # that is all
",
    ] {
        for input in [deployment(template), deployment(template).replace('\n', "\r\n")] {
            let injected = inject(&input);
            let spec = &documents(&injected)[0]["spec"]["template"]["spec"];
            assert_eq!(spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10, "{injected}");
            assert_eq!(spec["terminationGracePeriodSeconds"], 45);
            let comments = |text: &str| -> Vec<String> {
                text.lines().filter_map(|line| Some(line.split_once(" #")?.1.to_owned())).collect()
            };
            assert_eq!(comments(&injected), comments(&input), "{injected}");
            assert_eq!(revert(&injected), input);
            assert_eq!(inject(&injected), injected);
        }
    }
}

#[test]
fn an_anchor_on_a_changed_value_loses_no_comment() {
    let input = deployment(
        "
    metadata:
      labels: {app: settle}
    spec:
      # the server uses the same number
      terminationGracePeriodSeconds: &grace 30
      containers:
        - &first   # the others are like it
          name: settle
          image: registry.example/settle:2   # pinned
          resources: &small
            limits: {memory: 1Gi}   # measured in May
        - <<: *first
          name: side   # beside
          resources: *small
  progressDeadlineSeconds: *grace   # no longer than that
",
    );
    let injected = inject(&input);
    let spec = &documents(&injected)[0]["spec"];
    assert_eq!(spec["progressDeadlineSeconds"], 30);
    assert_eq!(spec["template"]["spec"]["terminationGracePeriodSeconds"], 45);
    for container in spec["template"]["spec"]["containers"].as_array().unwrap() {
        assert_eq!(container["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
    }
    assert!(injected.contains("terminationGracePeriodSeconds: &grace 45\n"), "{injected}");
    assert!(injected.contains("progressDeadlineSeconds: 30   # no longer than that\n"), "{injected}");
    // The other container gets its hook from the first.
    assert_eq!(injected.matches("lifecycle:").count(), 1, "{injected}");
    // The alias has become its value; everything else is restored.
    assert_eq!(revert(&injected), input.replace("*grace", "30"));
    assert_eq!(inject(&injected), injected);
}

#[test]
fn byte_order_marks_stay_and_are_ignored() {
    let plain = "\u{feff}apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-windows}\ndata: {a: \"1\"}\n";
    assert_eq!(inject(plain), plain);
    assert_eq!(revert(plain), plain);
    // Two concatenated files.
    let both = format!("{plain}---\n\u{feff}{}", crate::WEB);
    let injected = inject(&both);
    assert_eq!(injected, format!("{plain}---\n\u{feff}{}", inject(crate::WEB)));
    assert_eq!(revert(&injected), both);
    let json = "\u{feff}{\"kind\": \"ConfigMap\", \"apiVersion\": \"v1\"}\r\n";
    assert_eq!(inject(json), json);
    assert_eq!(succeed(&["inject", "-o", "json", "-f", "-"], plain).0.chars().next(), Some('{'));
}

#[test]
fn files_with_a_byte_order_mark_and_json_files_are_concatenated() {
    let mark = "\u{feff}---\nkind: A\n";
    let stream = "{\"kind\": \"B\"}{\"kind\": \"C\"}";
    let folder = crate::folder("marks", &[("1.json", stream), ("2.yaml", mark), ("3.json", stream)]);
    let out = succeed(&["inject", "-f", folder.to_str().unwrap()], "").0;
    assert_eq!(
        out,
        format!(
            "---\n{{\"kind\": \"B\"}}\n---\n{{\"kind\": \"C\"}}\n---\n{mark}---\n{{\"kind\": \"B\"}}\n---\n{{\"kind\": \"C\"}}"
        )
    );
    assert_eq!(inject(&out), out);
    let kinds = succeed(&["inject", "-o", "json", "-f", "-"], &out).0;
    assert_eq!(kinds.matches("\"kind\": \"").count(), 6, "{kinds}");
}

#[test]
fn json_stays_json() {
    let plain = "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"ConfigMap\",\n  \"metadata\": { \"name\": \"plain\" },\n  \"data\": { \"version\": \"1.10\", \"empty\": \"\" }\n}\n";
    let item = documents(crate::WEB).remove(0);
    let pretty = serde_json::to_string_pretty(&item).unwrap() + "\n";
    let compact = serde_json::to_string(&item).unwrap();
    let tabs = pretty.replace("  ", "\t");
    assert_eq!(inject(plain), plain);
    assert_eq!(revert(plain), plain);
    for input in [
        &pretty,
        &compact,
        &tabs,
        &format!("{plain}{pretty}"),
        &format!("{plain}\n\n{compact} {compact}\n\n"),
    ] {
        let injected = inject(input);
        let values: Vec<serde_json::Value> =
            serde_json::Deserializer::from_str(&injected).into_iter().collect::<Result<_, _>>().unwrap();
        let grace = &values.last().unwrap()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
        assert_eq!(grace, 45, "{injected}");
        assert_eq!(input.lines().count() == 1, injected.lines().count() == 1, "{injected}");
        assert_eq!(&revert(&injected), input);
        assert_eq!(inject(&injected), injected);
    }
    // Added fields are formatted like their neighbours.
    let injected = inject(&pretty);
    assert!(injected.contains("            \"lifecycle\": {\n              \"preStop\": {\n"), "{injected}");
    // JSON between documents of YAML.
    let mixed = format!("---\n{compact}\n---\n{}", crate::WEB);
    let injected = inject(&mixed);
    assert_eq!(injected, format!("---\n{}\n---\n{}", inject(&compact), inject(crate::WEB)));
}

#[test]
fn null_documents_keep_their_text_and_are_not_items() {
    let input = format!(
        "---\n# Source: a.yaml\nnull\n---\n{}---\n~\n---\nkind: ConfigMap\napiVersion: v1\n",
        crate::WEB
    );
    assert_eq!(revert(&inject(&input)), input);
    let list: serde_json::Value =
        serde_json::from_str(&succeed(&["inject", "-o", "json", "-f", "-"], &input).0).unwrap();
    let kinds: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| &item["kind"]).collect();
    assert_eq!(kinds, ["Deployment", "ConfigMap"]);
    let one: serde_json::Value =
        serde_json::from_str(&succeed(&["inject", "-o", "json", "-f", "-"], "null\n---\nkind: A\n").0)
            .unwrap();
    assert_eq!(one, json!({"kind": "A"}));
}

#[test]
fn yaml_tags_are_accepted_and_stay() {
    let tagged = format!(
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  greeting: !!binary aGVsbG8=\n  day: !!timestamp 2001-01-01\n  password: !vault secret/app#password\n  set: !!set {{a, b}}\n---\n{}",
        crate::WEB.replace(
            "        app: web\n",
            "        !!merge <<: &labels {tier: web}\n        app: !!str web\n"
        )
    );
    let injected = inject(&tagged);
    assert!(injected.contains("!!merge <<: &labels {tier: web}\n        app: !!str web\n"), "{injected}");
    assert!(injected.contains("terminationGracePeriodSeconds: 45"), "{injected}");
    assert_eq!(revert(&injected), tagged);
    let json = succeed(&["inject", "-o", "json", "-f", "-"], &tagged).0;
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        list["items"][0]["data"],
        json!({"greeting": "hello", "day": "2001-01-01", "password": "secret/app#password", "set": {"a": null, "b": null}})
    );
    assert_eq!(
        list["items"][1]["spec"]["template"]["metadata"]["labels"],
        json!({"tier": "web", "app": "web", "adieu.dev/injection": "enabled"})
    );
}

/// The record has no room for the text of a replaced value.
#[test]
fn replaced_values_are_restored_in_meaning_and_no_other_line_changes() {
    let policy = "apiVersion: adieu.dev/v1alpha1\nkind: GracefulPolicy\nmetadata: {name: all}\nspec: {selector: {}, preStop: {existingHookPolicy: Replace}}\n---\n";
    let input = policy.to_owned()
        + &deployment(
            "
    metadata: {labels: {app: settle}}   # selected
    spec:
      terminationGracePeriodSeconds: 0x1E # hexadecimal
      containers:
        - name: settle # first
          lifecycle:
            preStop: # own
              exec:
                command: [/drain, \"--all\"] # drains
            postStart: {exec: {command: [/warm]}}
          readinessProbe: ~
        # second
        - {name: side, lifecycle: {preStop: {httpGet: {path: \"/quit\", port: 80}}}} # beside
",
        );
    let (injected, told) = succeed(&["inject", "-f", "-"], &input);
    assert!(!told.contains("in place"), "{told}");
    assert_eq!(injected.matches("seconds: 10").count(), 2, "{injected}");
    let reverted = revert(&injected);
    assert_eq!(documents(&reverted), documents(&input));
    let expected = input
        .replace("Seconds: 0x1E #", "Seconds: 30 #")
        .replace(
            "                command: [/drain, \"--all\"] # drains\n",
            "                command:\n                - /drain\n                - --all\n",
        )
        .replace("path: \"/quit\"", "path: /quit");
    assert_eq!(reverted, expected);
}
