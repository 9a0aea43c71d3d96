//! The laws of injection, over everything that the API allows (see `generate`), and over the manifests of
//! `manifests`. Each law is a function of its own; those that look at the same injection share the case, so
//! that many can be tried. `PROPTEST_CASES` sets how many.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod generate;
mod manifests;

use std::collections::BTreeSet;

use adieu::{
    api::{
        ExistingHookPolicy, GracePeriodPolicy,
        annotations::INJECTED,
        labels::{ENABLED, INJECTION},
    },
    plan::{
        self, Injected, InjectionContext, NamespaceContext, OptIn, PodHooks, Record, Resolution,
        RolloutTiming, Settings, Source,
    },
};
use generate::{Case, additions, cases, context, list_mut, workload};
use kube::core::DynamicObject;
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{FileFailurePersistence, RngAlgorithm, TestCaseError},
};
use serde_json::{Map, Value, json};

const PRE_STOP: &str = "/lifecycle/preStop";
const READINESS_PROBE: &str = "/readinessProbe";
const POST_START: &str = "/lifecycle/postStart";
const GRACE_PERIOD: &str = "terminationGracePeriodSeconds";
const SPREAD: &str = "topologySpreadConstraints";

fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/proptest-regressions/laws.txt");
    ProptestConfig {
        cases: asked.unwrap_or(10_000),
        // Far faster without optimization, and random enough.
        rng_algorithm: RngAlgorithm::XorShift,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(seeds))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// What is generated once is held to every law that one injection shows.
    #[test]
    fn an_injection_keeps_its_laws(case in cases()) {
        let scene = Scene::of(&case);
        let before = scene.template();
        let after = scene.inject(before).template;
        injecting_twice_is_injecting_once(&scene, &after)?;
        reverting_brings_back_what_was_there(before, &after)?;
        a_field_that_the_user_set_is_never_changed(&scene.resolution.settings, before, &after)?;
        the_grace_period_is_never_0_and_changes_with_the_hooks(before, &after)?;
        nothing_but_hook_probe_grace_period_and_spread_is_changed(before, &after)?;
        a_sleep_that_fits_still_does_and_an_injected_one_always_does(before, &after)?;
        there_are_never_two_handlers_in_a_hook_or_probe(before, &after)?;
        the_patch_makes_the_injected_object(&case.workload, &after)?;
    }

    #[test]
    fn other_settings_make_what_they_make_from_scratch(case in cases(), other in context()) {
        let (before, now) = (Scene::of(&case), Scene::new(case.object(), other));
        let injected = before.inject(before.template()).template;
        let changed = now.inject(&injected).template;
        let from_scratch = now.inject(now.template());
        if from_scratch.prevented {
            prop_assert_eq!(changed, accepted(now.template(), &injected));
        } else {
            prop_assert_eq!(&changed["spec"], &from_scratch.template["spec"]);
            prop_assert_eq!(&plan::original(&changed, None), now.template());
        }
    }

    #[test]
    fn the_order_of_containers_services_and_policies_does_not_matter(case in cases(), order in order()) {
        let mut shuffled = case.clone();
        let template = &mut shuffled.workload["spec"]["template"];
        for list in ["containers", "initContainers"] {
            if let Some(list) = list_mut(template, list) {
                order.put(list);
            }
        }
        order.put(&mut shuffled.context.services);
        order.put(&mut shuffled.context.policies);
        order.put(&mut shuffled.context.cluster_policies);
        let (scene, shuffled) = (Scene::of(&case), Scene::of(&shuffled));
        prop_assert_eq!(
            in_one_order(scene.inject(scene.template())),
            in_one_order(shuffled.inject(shuffled.template()))
        );
    }

    #[test]
    fn what_people_do_after_an_injection_is_theirs(case in cases(), edit in edit(), own in handler()) {
        let scene = Scene::of(&case);
        let injected = scene.inject(scene.template()).template;
        an_edit_survives_the_revert(scene.template(), &injected, &edit)?;
        a_handler_merged_beside_the_injected_one_takes_its_place(&scene, &injected, &own)?;
    }

    #[test]
    fn webhook_and_controller_agree_and_roll_nothing_by_themselves(case in cases(), other in context()) {
        let scene = Scene::of(&case);
        let created = scene.admitted(&scene.object, None);
        an_update_that_changes_nothing_changes_nothing(&scene, &created, other)?;
        a_replace_with_the_manifest_as_it_was_rolls_nothing(&scene, &created)?;
        the_controller_wants_what_the_webhook_made(&scene, &created)?;
        opting_out_restores_at_once(&scene, &created)?;
        who_is_not_opted_in_is_left_alone(&scene, &created)?;
    }

    /// The API server asks again where another webhook changed the pod (reinvocation).
    #[test]
    fn a_pod_that_is_asked_about_again_is_not_changed_again(case in cases(), owner in owner(), mesh in additions()) {
        let scene = Scene::of(&case);
        let created = scene.admitted(&scene.object, None);
        let once = scene.admitted_pod(&owner.pod(&created), &created, owner).0;
        prop_assert_eq!(&scene.admitted_pod(&once, &created, owner).0, &once);
        let mut meshed = once.clone();
        for (list, added) in ["containers", "initContainers"].into_iter().zip(&mesh) {
            add(&mut meshed, list, added);
        }
        let (completed, warnings) = scene.admitted_pod(&meshed, &created, owner);
        prop_assert_eq!(&scene.admitted_pod(&completed, &created, owner).0, &completed);
        let refused = ["more than the maximum", "is for Windows"];
        if warnings.iter().any(|warning| refused.iter().any(|why| warning.contains(why))) {
            prop_assert_eq!(completed, meshed);
        } else {
            what_a_mesh_added_is_completed(owner, &meshed, &completed)?;
        }
    }
}

type Law = Result<(), TestCaseError>;

fn injecting_twice_is_injecting_once(scene: &Scene, once: &Value) -> Law {
    prop_assert_eq!(&scene.inject(once).template, once);
    Ok(())
}

fn reverting_brings_back_what_was_there(before: &Value, after: &Value) -> Law {
    prop_assert_eq!(&plan::original(after, None), before);
    Ok(())
}

fn a_field_that_the_user_set_is_never_changed(settings: &Settings, before: &Value, after: &Value) -> Law {
    let replaced = settings.existing.value == ExistingHookPolicy::Replace;
    for (before, after) in containers(before).zip(containers(after)) {
        // This one opts the container out, whatever a policy says.
        let opted_out = before.pointer(PRE_STOP) == Some(&json!({"sleep": {"seconds": 0}}));
        let own = set(before, PRE_STOP).filter(|_| opted_out || !replaced);
        prop_assert!(own.is_none() || own == after.pointer(PRE_STOP), "{before} became {after}");
        let own = set(before, READINESS_PROBE);
        prop_assert!(own.is_none() || own == after.pointer(READINESS_PROBE), "{before} became {after}");
    }
    let (before_template, after_template) = (before, after);
    let (before, after) = (&before["spec"], &after["spec"]);
    if let Some(seconds) =
        before[GRACE_PERIOD].as_i64().filter(|_| settings.grace_period.value == GracePeriodPolicy::AtLeast)
    {
        prop_assert!(
            after[GRACE_PERIOD].as_i64() >= Some(seconds),
            "{seconds} s became {}",
            after[GRACE_PERIOD]
        );
    }
    let labels = [before_template, after_template].map(|template| &template["metadata"]["labels"][INJECTION]);
    prop_assert!(labels[0].is_null() || labels[0] == labels[1], "{labels:?}");
    if before[SPREAD].as_array().is_some_and(|constraints| !constraints.is_empty()) {
        prop_assert_eq!(&before[SPREAD], &after[SPREAD]);
    }
    Ok(())
}

/// What isn't a whole number can't be raised, so nothing else changes either.
fn the_grace_period_is_never_0_and_changes_with_the_hooks(before: &Value, after: &Value) -> Law {
    if grace_period(before).is_none() {
        prop_assert_eq!(before, after);
    }
    let [old, new] = [before, after].map(|template| template["spec"].get(GRACE_PERIOD));
    prop_assert!(old == new || new.and_then(Value::as_i64) > Some(0), "{after}");
    Ok(())
}

fn nothing_but_hook_probe_grace_period_and_spread_is_changed(before: &Value, after: &Value) -> Law {
    prop_assert_eq!(untouchable(after), untouchable(before));
    Ok(())
}

fn a_sleep_that_fits_still_does_and_an_injected_one_always_does(before: &Value, after: &Value) -> Law {
    let (Some(old), Some(new)) = (grace_period(before), grace_period(after)) else { return Ok(()) };
    let (old, new) = (Some(old), Some(new));
    prop_assert!(longest_sleep(before) > old || longest_sleep(after) <= new, "{after}");
    for (before, after) in containers(before).zip(containers(after)) {
        let injected = before.pointer(PRE_STOP) != after.pointer(PRE_STOP);
        prop_assert!(!injected || seconds_of(after, PRE_STOP) <= new, "{after} has {new:?} s");
    }
    Ok(())
}

fn there_are_never_two_handlers_in_a_hook_or_probe(before: &Value, after: &Value) -> Law {
    for (before, after) in containers(before).zip(containers(after)) {
        for path in [PRE_STOP, READINESS_PROBE] {
            prop_assert!(handlers(after, path) <= handlers(before, path).max(1), "{after}");
        }
    }
    Ok(())
}

fn the_patch_makes_the_injected_object(workload: &Value, after: &Value) -> Law {
    let before = &workload["spec"]["template"];
    let mut expected = workload.clone();
    if after != before {
        expected["spec"]["template"] = after.clone();
    }
    for patch in [plan::template_patch(before, after), plan::answer_patch(before, after.clone(), 0)] {
        let mut patched = workload.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        prop_assert_eq!(&patched, &expected);
    }
    Ok(())
}

/// The injected value itself is adieu's, whoever writes it; any other is the user's.
fn an_edit_survives_the_revert(before: &Value, injected: &Value, edit: &Edit) -> Law {
    let mut edited = injected.clone();
    edit.put_into(&mut edited);
    if edited != *injected {
        let mut expected = before.clone();
        edit.put_into(&mut expected);
        let [given, kept] = [injected, &edited].map(|template| template["spec"].get(GRACE_PERIOD));
        let same_containers = matches!(edit.change, Change::Container(..));
        if same_containers
            && later_sleep(before, injected, &edited) > Some(grace_period(before).unwrap_or(30))
            && given == kept
        {
            expected["spec"][GRACE_PERIOD] = injected["spec"][GRACE_PERIOD].clone();
        }
        prop_assert_eq!(plan::original(&edited, None), expected);
    }
    Ok(())
}

/// The longest sleep that the user put in the place of an injected hook: the API server would refuse it with
/// a shorter grace period.
fn later_sleep(before: &Value, injected: &Value, edited: &Value) -> Option<i64> {
    let hooks = |template| containers(template).map(|container| container.pointer(PRE_STOP).cloned());
    let later = hooks(before).zip(hooks(injected)).zip(hooks(edited));
    let later =
        later.filter(|((before, injected), now)| before != injected && now != injected && now != before);
    later.filter_map(|(_, now)| now?["sleep"]["seconds"].as_i64()).max()
}

/// As `kubectl apply` merges a user's `exec` into an injected `sleep`.
fn a_handler_merged_beside_the_injected_one_takes_its_place(
    scene: &Scene,
    injected: &Value,
    own: &Map<String, Value>,
) -> Law {
    let mut merged = injected.clone();
    let mut places = Vec::new();
    for (index, before) in containers(scene.template()).enumerate() {
        let hook = container_mut(&mut merged, index).and_then(|container| container.pointer_mut(PRE_STOP));
        let Some(hook) = hook.filter(|hook| set(before, PRE_STOP) != Some(hook)) else { continue };
        if let Some(hook) = hook.as_object_mut().filter(|hook| own.keys().all(|key| !hook.contains_key(key)))
        {
            hook.extend(own.clone());
            places.push(index);
        }
    }
    if places.is_empty() {
        return Ok(());
    }
    let own = Some(Value::Object(own.clone()));
    let hook =
        |template: &Value, index| containers(template).nth(index).and_then(|c| c.pointer(PRE_STOP).cloned());
    let (reverted, again) = (plan::opt_out(&merged, None), scene.inject(&merged).template);
    let reverted_again = plan::opt_out(&again, None);
    let replaced = scene.resolution.settings.existing.value == ExistingHookPolicy::Replace;
    for index in places {
        prop_assert_eq!(&hook(&reverted, index), &own);
        prop_assert!(replaced || hook(&again, index) == own, "{again}");
        prop_assert_eq!(&hook(&reverted_again, index), &own);
    }
    Ok(())
}

/// Nor does a policy or Service that changed since reach it by an update that is about something else.
fn an_update_that_changes_nothing_changes_nothing(
    scene: &Scene,
    created: &DynamicObject,
    other: NamespaceContext,
) -> Law {
    // The API server may ask again on creation, after other webhooks.
    prop_assert_eq!(scene.admit(created, None), None);
    prop_assert_eq!(scene.admit(created, Some(created)), None);
    let mut scaled = created.clone();
    scaled.data["spec"]["replicas"] = json!(7);
    prop_assert_eq!(Scene::new(scaled.clone(), other).admit(&scaled, Some(created)), None);
    Ok(())
}

/// `kubectl replace`, or a tool that re-asserts what is in Git: the record isn't in the request.
fn a_replace_with_the_manifest_as_it_was_rolls_nothing(scene: &Scene, created: &DynamicObject) -> Law {
    prop_assert_eq!(&scene.admitted(&scene.object, Some(created)).data, &created.data);
    Ok(())
}

fn the_controller_wants_what_the_webhook_made(scene: &Scene, created: &DynamicObject) -> Law {
    prop_assert_eq!(scene.evaluate(created), None);
    // What slipped past becomes the same, but for a probe that only a creation can get.
    let evaluated = scene.evaluate(&scene.object).unwrap_or_else(|| scene.template().clone());
    prop_assert_eq!(without_probes(&evaluated), without_probes(&created.data["spec"]["template"]));
    let mut later = scene.object.clone();
    later.data["spec"]["template"] = evaluated;
    prop_assert_eq!(scene.evaluate(&later), None);
    Ok(())
}

/// Whether the webhook is there or not. The grace period stays that a sleep was accepted with.
fn opting_out_restores_at_once(scene: &Scene, created: &DynamicObject) -> Law {
    let mut out = created.clone();
    let annotations = out.metadata.annotations.get_or_insert_default();
    annotations.insert("adieu.dev/graceful".into(), "false".into());
    let restored = accepted(scene.template(), &created.data["spec"]["template"]);
    let mut expected = scene.object.data.clone();
    if restored != *scene.template() {
        expected["spec"]["template"] = restored.clone();
    }
    prop_assert_eq!(&scene.admitted(&out, Some(created)).data, &expected);
    // What another controller owns carries no injection.
    let evaluated = scene.evaluate(&out).unwrap_or_else(|| out.data["spec"]["template"].clone());
    prop_assert_eq!(evaluated, restored);
    Ok(())
}

fn who_is_not_opted_in_is_left_alone(scene: &Scene, created: &DynamicObject) -> Law {
    if !matches!(scene.resolution.opt_in, OptIn::In(_)) {
        prop_assert_eq!(&created.data, &scene.object.data);
    }
    Ok(())
}

fn what_a_mesh_added_is_completed(owner: PodOwner, meshed: &Value, completed: &Value) -> Law {
    prop_assert_eq!(untouchable(completed), untouchable(meshed));
    let annotations = &meshed["metadata"]["annotations"];
    let record = annotations[INJECTED].as_str().and_then(|text| text.lines().next());
    // Where there was nothing to inject yet, nothing is recorded.
    let Some(Record { settings, .. }) = record.and_then(|text| serde_json::from_str(text).ok()) else {
        return Ok(());
    };
    // Without its workload, a pod that says so itself is out.
    let is_out = owner != PodOwner::Workload && annotations["adieu.dev/graceful"] == "false";
    if is_out || !meshed["spec"]["containers"].is_array() {
        return Ok(());
    }
    let of_mesh =
        |container: &&Value| container["name"].as_str().is_some_and(|name| name.starts_with("mesh-"));
    let drain = settings.drain_seconds.value;
    let mut grown = false;
    for (before, after) in containers(meshed).zip(containers(completed)).filter(|(before, _)| of_mesh(before))
    {
        prop_assert!(drain == 0 || set(after, PRE_STOP).is_some(), "{after}");
        grown |= set(before, PRE_STOP) != set(after, PRE_STOP);
    }
    let init = completed["spec"]["initContainers"].as_array().into_iter().flatten();
    let sidecars: Vec<_> = init.filter(|container| container["restartPolicy"] == "Always").collect();
    let added = sidecars.iter().any(of_mesh) && owner != PodOwner::Unknown;
    let hooks = PodHooks {
        containers: if grown { drain } else { 0 },
        native_sidecar_count: sidecars.len(),
        ..PodHooks::default()
    };
    let needed = plan::grace_period_seconds(&settings, hooks);
    if let Some(seconds) = grace_period(completed).filter(|_| grown || added) {
        prop_assert!(seconds >= needed, "{seconds} s instead of {needed} s: {completed}");
    }
    Ok(())
}

#[test]
fn the_laws_hold_for_every_manifest() {
    let mut injected = 0;
    for document in manifests::workloads() {
        let (name, around) = (&document.name, document.context.clone());
        let scene = Scene::of(&Case { workload: document.object.clone(), context: around });
        let (before, after) = (scene.template(), scene.inject(scene.template()).template);
        let laws = [
            injecting_twice_is_injecting_once(&scene, &after),
            reverting_brings_back_what_was_there(before, &after),
            a_field_that_the_user_set_is_never_changed(&scene.resolution.settings, before, &after),
            the_grace_period_is_never_0_and_changes_with_the_hooks(before, &after),
            nothing_but_hook_probe_grace_period_and_spread_is_changed(before, &after),
            a_sleep_that_fits_still_does_and_an_injected_one_always_does(before, &after),
            there_are_never_two_handlers_in_a_hook_or_probe(before, &after),
            the_patch_makes_the_injected_object(&document.object, &after),
        ];
        for law in laws {
            law.unwrap_or_else(|broken| unreachable!("{name}: {broken}"));
        }
        injected += usize::from(after != *before);
    }
    assert!(injected >= 60, "only {injected} workloads were injected");
}

/// A workload, what surrounds it, and what that comes to.
struct Scene {
    object: DynamicObject,
    context: NamespaceContext,
    resolution: Resolution,
}

impl Scene {
    fn of(case: &Case) -> Self {
        Self::new(case.object(), case.context.clone())
    }

    fn new(object: DynamicObject, context: NamespaceContext) -> Self {
        let resolution = plan::resolve(&workload(&object), &context);
        Self { object, context, resolution }
    }

    fn template(&self) -> &Value {
        &self.object.data["spec"]["template"]
    }

    /// Injects, whoever opted in, as on a creation.
    fn inject(&self, template: &Value) -> Injected {
        let workload = workload(&self.object);
        let injection = InjectionContext {
            kind: workload.kind,
            services: &self.context.services,
            creating: true,
            opted_in_by: &Source::WorkloadAnnotation,
            native_sleep: self.context.native_sleep,
            selector: workload.selector,
            recreates: workload.recreates,
            rendered: false,
        };
        plan::inject(template, None, &self.resolution.settings, &injection)
    }

    /// The template that a request ends with, where it isn't the request's own.
    fn admit(&self, new: &DynamicObject, old: Option<&DynamicObject>) -> Option<Value> {
        let admission = plan::admit(&workload(new), old.map(workload).as_ref(), &self.context);
        assert!(admission.refusals.is_empty(), "{:?}", admission.refusals);
        admission.template
    }

    /// The object that a request ends with.
    fn admitted(&self, new: &DynamicObject, old: Option<&DynamicObject>) -> DynamicObject {
        let mut object = new.clone();
        if let Some(template) = self.admit(new, old) {
            object.data["spec"]["template"] = template;
        }
        object
    }

    /// A pod as a request ends with it, and what is said of it.
    fn admitted_pod(&self, pod: &Value, of: &DynamicObject, owner: PodOwner) -> (Value, Vec<String>) {
        let kind = workload(of).kind.filter(|_| owner == PodOwner::Workload);
        let admission = plan::admit_pod(pod, kind.map(|kind| (kind, of)), &self.context);
        assert!(admission.refusals.is_empty(), "{:?}", admission.refusals);
        (admission.template.unwrap_or_else(|| pod.clone()), admission.warnings)
    }

    /// The template that the controller would write.
    fn evaluate(&self, object: &DynamicObject) -> Option<Value> {
        let evaluation = plan::evaluate(&workload(object), &self.context);
        evaluation.template.filter(|_| evaluation.timing != RolloutTiming::DryRun)
    }
}

/// Who a pod belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum PodOwner {
    /// The workload.
    Workload,
    /// The workload, which the cache has yet to bring.
    Unknown,
    /// No workload of `apps/v1`.
    Stranger,
}

fn owner() -> impl Strategy<Value = PodOwner> {
    prop::sample::select(vec![PodOwner::Workload, PodOwner::Unknown, PodOwner::Stranger])
}

impl PodOwner {
    /// A pod of the workload's template. One of a StatefulSet, whatever the workload is, is as good as another.
    fn pod(self, workload: &DynamicObject) -> Value {
        let mut pod = workload.data["spec"]["template"].clone();
        let (api_version, kind) = match self {
            Self::Workload | Self::Unknown => ("apps/v1", "StatefulSet"),
            Self::Stranger => ("batch/v1", "Job"),
        };
        let owner =
            json!({"apiVersion": api_version, "kind": kind, "name": "web", "uid": "1", "controller": true});
        put(&mut pod, &["metadata", "ownerReferences"], Some(&json!([owner])));
        pod
    }
}

/// Adds to one of a pod's lists of containers, where it is one.
fn add(pod: &mut Value, list: &str, added: &Value) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let containers = spec.entry(list).or_insert(Value::Null);
    if containers.is_null() {
        *containers = json!([]);
    }
    if let (Some(containers), Some(added)) = (containers.as_array_mut(), added.as_array()) {
        containers.extend(added.clone());
    }
}

/// The regular containers, whatever they are.
fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    template["spec"]["containers"].as_array().into_iter().flatten()
}

fn container_mut(template: &mut Value, index: usize) -> Option<&mut Value> {
    list_mut(template, "containers")?.get_mut(index)
}

/// What is there and not `null`.
fn set<'a>(container: &'a Value, path: &str) -> Option<&'a Value> {
    container.pointer(path).filter(|value| !value.is_null())
}

/// In seconds; what is absent is 30. `None` where it is no number.
fn grace_period(template: &Value) -> Option<i64> {
    let value = &template["spec"][GRACE_PERIOD];
    if value.is_null() { Some(30) } else { value.as_i64() }
}

/// Of every sleep that the API server compares with the grace period.
fn longest_sleep(template: &Value) -> Option<i64> {
    let init = template["spec"]["initContainers"].as_array().into_iter().flatten();
    let all = containers(template).chain(init.filter(|container| container["restartPolicy"] == "Always"));
    all.filter_map(|container| {
        [PRE_STOP, POST_START].map(|hook| seconds_of(container, hook)).into_iter().max()?
    })
    .max()
}

fn seconds_of(container: &Value, hook: &str) -> Option<i64> {
    container.pointer(hook)?.pointer("/sleep/seconds")?.as_i64()
}

/// What `original` is where `injected` is taken back that the API server took: a sleep that is longer than the
/// grace period was keeps the present one.
fn accepted(original: &Value, injected: &Value) -> Value {
    let mut accepted = original.clone();
    if longest_sleep(original) > grace_period(original)
        && let Some(present) = injected["spec"].get(GRACE_PERIOD)
    {
        accepted["spec"][GRACE_PERIOD] = present.clone();
    }
    accepted
}

/// How many actions a hook or probe has.
fn handlers(container: &Value, path: &str) -> usize {
    let fields = container.pointer(path).and_then(Value::as_object).into_iter().flatten();
    fields
        .filter(|(key, _)| ["exec", "httpGet", "tcpSocket", "grpc", "sleep"].contains(&key.as_str()))
        .count()
}

/// A template without what adieu may change, and without what is empty for it.
fn untouchable(template: &Value) -> Value {
    let mut rest = template.clone();
    let take = |holder: &mut Value, path: &[&str]| take_away(holder, path);
    take(&mut rest, &["spec", GRACE_PERIOD]);
    take(&mut rest, &["spec", SPREAD]);
    take(&mut rest, &["metadata", "annotations", INJECTED]);
    take(&mut rest, &["metadata", "labels", INJECTION]);
    for container in list_mut(&mut rest, "containers").into_iter().flatten() {
        take(container, &["lifecycle", "preStop"]);
        take(container, &["readinessProbe"]);
    }
    rest
}

/// Takes away what is at `path`, and what holds nothing then.
fn take_away(holder: &mut Value, path: &[&str]) {
    let (Some(fields), Some((first, rest))) = (holder.as_object_mut(), path.split_first()) else { return };
    if let Some(value) = fields.get_mut(*first) {
        take_away(value, rest);
        if rest.is_empty() || value.is_null() || value.as_object().is_some_and(Map::is_empty) {
            fields.remove(*first);
        }
    }
}

fn without_probes(template: &Value) -> Value {
    let mut template = template.clone();
    for container in list_mut(&mut template, "containers").into_iter().flatten() {
        take_away(container, &["readinessProbe"]);
    }
    template.get_mut("spec").map(Value::take).unwrap_or_default()
}

/// What doesn't depend on an order.
fn in_one_order(injected: Injected) -> (Value, BTreeSet<String>) {
    let mut template = injected.template;
    for list in ["containers", "initContainers"] {
        if let Some(list) = list_mut(&mut template, list) {
            list.sort_by_cached_key(ToString::to_string);
        }
    }
    (template, injected.warnings.into_iter().collect())
}

/// An order for lists of any length.
#[derive(Clone, Debug)]
struct Order(Vec<Index>);

fn order() -> impl Strategy<Value = Order> {
    prop::collection::vec(any::<Index>(), 4).prop_map(Order)
}

impl Order {
    fn put<T>(&self, list: &mut [T]) {
        for (position, other) in self.0.iter().enumerate().take(list.len()) {
            let other = position + other.index(list.len() - position);
            list.swap(position, other);
        }
    }
}

/// A handler that the API server takes.
fn handler() -> impl Strategy<Value = Map<String, Value>> {
    let handlers = [
        json!({"exec": {"command": ["sh", "-c", "sleep 20"]}}),
        json!({"exec": {"command": ["/drain"]}}),
        json!({"httpGet": {"path": "/quit", "port": 1}}),
        json!({"sleep": {"seconds": 4}}),
    ];
    prop::sample::select(handlers.to_vec()).prop_map(|handler| handler.as_object().cloned().unwrap())
}

/// What somebody does with a template that carries an injection.
#[derive(Clone, Debug)]
struct Edit {
    /// Which container.
    container: Index,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    /// Of a field of the pod spec.
    Pod(&'static str, Option<Value>),
    /// Of a field of a container.
    Container(&'static [&'static str], Option<Value>),
    /// Another container.
    Add(Value),
    /// One container less.
    Remove,
    /// Of an annotation.
    Annotation(Option<Value>),
    /// Of the label that brings pods to the webhook.
    Label(Option<Value>),
}

fn edit() -> impl Strategy<Value = Edit> {
    let some = |value: Value| Just(Some(value));
    let change = prop_oneof![
        (1..400i64).prop_map(|seconds| Change::Pod(GRACE_PERIOD, Some(json!(seconds)))),
        Just(Change::Pod(GRACE_PERIOD, None)),
        Just(Change::Pod(SPREAD, None)),
        Just(Change::Pod(
            SPREAD,
            Some(json!([{"maxSkew": 3, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]))
        )),
        Just(Change::Pod("hostNetwork", Some(json!(true)))),
        handler().prop_map(|handler| Change::Container(&["lifecycle", "preStop"], Some(handler.into()))),
        Just(Change::Container(&["lifecycle", "preStop"], None)),
        Just(Change::Container(&["lifecycle"], None)),
        Just(Change::Container(&["lifecycle", "postStart"], Some(json!({"exec": {"command": ["true"]}})))),
        some(json!({"tcpSocket": {"port": 7}}))
            .prop_map(|probe| Change::Container(&["readinessProbe"], probe)),
        Just(Change::Container(&["readinessProbe"], None)),
        Just(Change::Container(&["image"], Some(json!("registry.example/web:2")))),
        Just(Change::Container(&["ports"], Some(json!([{"containerPort": 7}])))),
        Just(Change::Add(json!({"name": "late", "image": "late"}))),
        Just(Change::Remove),
        Just(Change::Annotation(Some(json!("now")))),
        Just(Change::Annotation(None)),
        Just(Change::Label(Some(json!("disabled")))),
        Just(Change::Label(Some(json!(ENABLED)))),
        Just(Change::Label(None)),
    ];
    (any::<Index>(), change).prop_map(|(container, change)| Edit { container, change })
}

impl Edit {
    fn put_into(&self, template: &mut Value) {
        if let Change::Annotation(value) = &self.change {
            return put(template, &["metadata", "annotations", "checksum/config"], value.as_ref());
        }
        if let Change::Label(value) = &self.change {
            return put(template, &["metadata", "labels", INJECTION], value.as_ref());
        }
        if let Change::Pod(field, value) = &self.change {
            return put(template, &["spec", field], value.as_ref());
        }
        let Some(containers) = list_mut(template, "containers") else { return };
        if containers.is_empty() {
            return;
        }
        let index = self.container.index(containers.len());
        match &self.change {
            Change::Container(path, value) => put(&mut containers[index], path, value.as_ref()),
            Change::Add(container) => containers.push(container.clone()),
            Change::Remove => drop(containers.remove(index)),
            Change::Pod(..) | Change::Annotation(_) | Change::Label(_) => {}
        }
    }
}

/// Sets what is at `path`, or takes it away.
fn put(holder: &mut Value, path: &[&str], value: Option<&Value>) {
    let (Some(fields), Some((first, rest))) = (holder.as_object_mut(), path.split_first()) else { return };
    match value {
        _ if !rest.is_empty() && (value.is_some() || fields.contains_key(*first)) => {
            let next = fields.entry(*first).or_insert(Value::Null);
            if next.is_null() && value.is_some() {
                *next = json!({});
            }
            put(next, rest, value);
        }
        Some(value) if rest.is_empty() => drop(fields.insert((*first).to_owned(), value.clone())),
        _ => drop(fields.remove(*first)),
    }
}
