//! Computes the pod template of a workload. Pure: all inputs are arguments, and no function waits.
//!
//! [`resolve`] merges the settings, [`inject`] applies them to a template and adds a [`record`], by which the injection
//! can be reverted. Three callers decide when: [`admit`] for a request, [`evaluate`] for a workload in the cluster, and
//! [`render`] for a manifest.

mod accepted_settings;
mod admit;
mod applied_recommendation;
mod auto_drain;
mod change_trigger;
mod command_duration;
mod context;
mod disruption_budget;
mod evaluate;
mod explain;
mod explained_settings;
mod grace_period;
mod hook_duration;
mod hook_warnings;
mod hooks;
mod inject;
mod injection_diff;
mod instant_commands;
mod matching;
mod missed_warnings;
mod patch;
mod pending_change;
mod pod_injection;
mod pod_template;
mod policy_rank;
mod ports;
mod readiness_probe;
mod recommendation_change;
mod record;
mod render;
mod required_drain;
mod resolve;
mod revert;
mod settings;
mod settings_warnings;
mod shell_script;
mod short_drain;
mod source;
mod step;
mod termination;
mod warnings;
mod windows;
mod windows_commands;
mod workload;
mod workload_annotations;
mod workload_status;

pub use admit::{
    Admission, admit, admit_without_field_manager, preserve_applied_recommendation,
    preserve_opt_in_on_rollback,
};
pub use command_duration::SHELLS;
pub use context::{InjectionContext, NamespaceContext};
pub use disruption_budget::{BudgetChange, budget_change, is_our_budget, our_labels, pod_labels};
pub use evaluate::{Evaluation, InjectionState, RolloutTiming, evaluate, rolled_out_by};
pub use explain::{Explanation, OptedIn, explain};
pub use explained_settings::{ExplainedSetting, OverriddenValue};
pub use grace_period::{PodHooks, grace_period_seconds};
pub use hook_duration::pre_stop_seconds;
pub use inject::{Injected, inject, opt_out, original};
pub use injection_diff::{
    BeforeAfter, GRACE_PERIOD_FIELD, InjectionChange, InjectionDiff, PRE_STOP_FIELD, READINESS_PROBE_FIELD,
    injection_diff,
};
pub use matching::{applies_to, cluster_policy_applies_to, is_opted_out, matches, matching_policies};
pub use missed_warnings::missed_warnings;
pub use patch::{
    annotations_patch, clear_pending, keep_accepted, label_injected, mark_rollout, opt_out_patch, pod_patch,
    response_patch, template_patch,
};
pub use pending_change::{CausingSetting, ExplainedChange, PendingChange};
pub use pod_injection::{Owner, admit_pod};
pub use pod_template::PodTemplate;
pub use policy_rank::default_policy;
pub use policy_rank::drain_profiles;
pub use ports::{ReceivingPort, has_service, is_headless, receiving_ports, selects};
pub use recommendation_change::{RecommendationChange, recommendation_change};
pub use record::Record;
pub use render::{EffectivePods, effective_pods, render, revert};
pub use required_drain::{Completeness, DrainOrigin, Exposures, RequiredDrain};
pub use resolve::{OptIn, Resolution, effective, resolve};
pub use settings::{ProbeChoice, Setting, Settings};
pub use short_drain::{ShortDrain, short_drain};
pub use source::Source;
pub use termination::{ContainerTermination, Termination};
pub use windows::is_windows;
pub use workload::{Kind, Workload, is_replaced_terminated, string_map};
pub use workload_annotations::annotation_changes;
pub use workload_status::{ManagementState, WorkloadStatus, workload_status};
