//! Checks before an installation: version, rights, admission, and conflicts with what is installed. Nothing is changed.

use k8s_openapi::{
    api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Resource as _, ResourceExt, api::ListParams};
use serde::Deserialize;

use super::{
    problem::{Check, OLDEST_VERSION, Problem, WEBHOOKS},
    served_kinds::missing_kinds,
};
use crate::{
    api::crds,
    cli::live_object::small_metadata,
    disruption::{Error, Permission, missing_permissions},
    index::list::{Selectors, for_each},
    kube_version::KubeVersion,
    runtime::api_errors::describe,
};

/// The resources of the chart's objects in the whole cluster, each with its group.
const IN_CLUSTER: [(&str, &str); 6] = [
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
];
/// Those in its namespace.
const IN_NAMESPACE: [(&str, &str); 8] = [
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("apps", "deployments"),
    ("coordination.k8s.io", "leases"),
    ("policy", "poddisruptionbudgets"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
];
/// The kinds that admission needs.
const KINDS: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingAdmissionPolicy"];

pub(super) async fn run_checks(client: &Client, namespace: &str) -> Vec<Check> {
    let version = match client.apiserver_version().await {
        Ok(version) => supported(&version.git_version),
        Err(error) => return vec![Err(Problem::Unreachable(error))],
    };
    let mut checks =
        vec![version, rights(client, namespace).await, admission(client).await, releases(client).await];
    match InstalledCrd::read(client).await {
        Ok(installed) => {
            let own = crds();
            checks.push(owners(&installed, &own));
            checks.push(short_names(&installed, &own));
        }
        Err(error) => checks.push(Err(unchecked("CustomResourceDefinitions", &error))),
    }
    checks
}

fn unchecked(what: &'static str, error: &kube::Error) -> Problem {
    Problem::Unchecked { what, reason: describe(error) }
}

fn supported(version: &str) -> Check {
    let parsed = version.parse::<KubeVersion>().ok().zip(OLDEST_VERSION.parse::<KubeVersion>().ok());
    match parsed {
        Some((found, oldest)) if found < oldest => Err(Problem::OldVersion(version.to_owned())),
        _ => Ok(format!("the API server is reachable, and its version is supported: {version}")),
    }
}

/// Checks whether the user may create the objects of the chart.
async fn rights(client: &Client, namespace: &str) -> Check {
    let create = |(group, resource): (&'static str, &str), namespace: Option<&str>| Permission {
        verb: "create",
        group,
        resource: resource.to_owned(),
        namespace: namespace.map(str::to_owned),
    };
    let mut required: Vec<_> = IN_CLUSTER.into_iter().map(|resource| create(resource, None)).collect();
    required.extend(IN_NAMESPACE.into_iter().map(|resource| create(resource, Some(namespace))));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    if matches!(namespaces.get_metadata_opt(namespace).await, Ok(None)) {
        required.push(create(("", "namespaces"), None));
    }
    match missing_permissions(client, &required).await {
        Ok(missing) if missing.is_empty() => {
            Ok(format!("you may create the objects of the chart in the namespace {namespace}"))
        }
        Ok(missing) => {
            let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
            Err(Problem::MissingRights(missing.join(", ")))
        }
        Err(Error::Api { source, .. }) => Err(Problem::Unreachable(*source)),
        Err(error) => Err(Problem::Unchecked { what: "your rights", reason: error.to_string() }),
    }
}

async fn admission(client: &Client) -> Check {
    let missing = missing_kinds(client, "admissionregistration.k8s.io/v1", &KINDS).await?;
    if missing.is_empty() {
        Ok(format!("{} are served", KINDS.join(" and ")))
    } else {
        Err(Problem::NoAdmission(missing.join(" and ")))
    }
}

/// Checks whether adieu is installed.
async fn releases(client: &Client) -> Check {
    let all: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let all = all.list(&ListParams::default()).await;
    let all = all.map_err(|error| unchecked("MutatingWebhookConfigurations", &error))?;
    let is_own = |configuration: &&MutatingWebhookConfiguration| {
        configuration.webhooks.iter().flatten().any(|webhook| webhook.name.ends_with(WEBHOOKS))
    };
    let own: Vec<_> = all.items.iter().filter(is_own).map(ResourceExt::name_any).collect();
    if own.is_empty() {
        Ok("adieu is not installed yet".to_owned())
    } else {
        Err(Problem::InstalledAlready(own.join(", ")))
    }
}

/// The fields of a CustomResourceDefinition that may conflict.
#[derive(Debug, Deserialize)]
struct InstalledCrd {
    #[serde(deserialize_with = "small_metadata")]
    metadata: ObjectMeta,
    spec: InstalledSpec,
}

#[derive(Debug, Deserialize)]
struct InstalledSpec {
    names: InstalledNames,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstalledNames {
    #[serde(default)]
    short_names: Vec<String>,
}

impl InstalledCrd {
    async fn read(client: &Client) -> Result<Vec<Self>, kube::Error> {
        let mut found = Vec::new();
        let path = CustomResourceDefinition::url_path(&(), None);
        let add = |text: &[u8]| found.extend(serde_json::from_slice::<Self>(text).ok());
        for_each(client, &path, Selectors::default(), add).await?;
        Ok(found)
    }

    fn is_one_of(&self, own: &[CustomResourceDefinition]) -> bool {
        own.iter().any(|own| own.metadata.name == self.metadata.name)
    }

    /// The Helm release that it belongs to, for people.
    fn owner(&self) -> String {
        let value = |key: &str| self.metadata.annotations.as_ref()?.get(key);
        match (value("meta.helm.sh/release-name"), value("meta.helm.sh/release-namespace")) {
            (Some(name), Some(namespace)) => format!("the Helm release {name} in the namespace {namespace}"),
            _ => "no Helm release".to_owned(),
        }
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

fn owners(installed: &[InstalledCrd], own: &[CustomResourceDefinition]) -> Check {
    match installed.iter().find(|crd| crd.is_one_of(own)) {
        None => Ok("no CRD of adieu is installed yet".to_owned()),
        Some(crd) => {
            Err(Problem::ExistingCrd { crds: format!("the CRD {}", crd.name()), owner: crd.owner() })
        }
    }
}

fn short_names(installed: &[InstalledCrd], own: &[CustomResourceDefinition]) -> Check {
    let own_names: Vec<_> =
        own.iter().flat_map(|crd| crd.spec.names.short_names.iter().flatten()).map(String::as_str).collect();
    let others = installed.iter().filter(|crd| !crd.is_one_of(own));
    let same: Vec<_> = others
        .flat_map(|crd| crd.spec.names.short_names.iter().map(move |name| (name, crd)))
        .filter(|(name, _)| own_names.contains(&name.as_str()))
        .map(|(name, crd)| format!("{name} of {}", crd.name()))
        .collect();
    if same.is_empty() {
        Ok(format!("no other kind has the short names {}", own_names.join(", ")))
    } else {
        Err(Problem::ShortNames(same.join(", ")))
    }
}

#[cfg(test)]
#[path = "pre_tests.rs"]
mod tests;
