//! Finds the image of the installed operator.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, apps::v1::Deployment, core::v1::Container,
};
use kube::{Api, Client, Resource as _, api::ListParams};
use serde::Deserialize;

use super::{error::Error, load_job::NAME};
use crate::index::list::{Selectors, for_each};

/// The suffix of the names of adieu's webhooks.
const WEBHOOKS: &str = ".adieu.dev";

/// The image of the installed operator; `None` if there isn't exactly one. It is that of Deployments to which adieu's
/// webhook configuration leads: in other namespaces any user may give a Deployment the operator's label.
///
/// # Errors
/// A request fails.
pub async fn operator_image(client: &Client) -> Result<Option<String>, Error> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let configurations = configurations.list(&ListParams::default()).await;
    let configurations = configurations.map_err(Error::api("list the MutatingWebhookConfigurations"))?;
    let webhooks = configurations.items.into_iter().flat_map(|found| found.webhooks.unwrap_or_default());
    let services = webhooks
        .filter(|webhook| webhook.name.ends_with(WEBHOOKS))
        .filter_map(|webhook| webhook.client_config.service);
    let namespaces: BTreeSet<_> = services.map(|service| service.namespace).collect();
    let labels = format!("{NAME}=adieu");
    let selectors = Selectors { labels: Some(&labels), ..Selectors::default() };
    let mut images = BTreeSet::new();
    for namespace in namespaces {
        let path = Deployment::url_path(&(), Some(&namespace));
        let add = |text: &[u8]| images.extend(images_of(text));
        let listed = for_each(client, &path, selectors, add).await;
        listed.map_err(Error::api("list the operator's Deployments"))?;
    }
    Ok(if images.len() == 1 { images.pop_first() } else { None })
}

/// The images of the operator's containers in a Deployment.
fn images_of(text: &[u8]) -> Vec<String> {
    /// A Deployment's used fields.
    #[derive(Deserialize)]
    struct Operator {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        template: Template,
    }
    #[derive(Deserialize)]
    struct Template {
        spec: PodSpec,
    }
    #[derive(Deserialize)]
    struct PodSpec {
        containers: Vec<Container>,
    }
    let Ok(operator) = serde_json::from_slice::<Operator>(text) else { return vec![] };
    let containers = operator.spec.template.spec.containers.into_iter();
    containers.filter(|container| container.name == "adieu").filter_map(|container| container.image).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::runtime::test_support::{client, not_found};

    /// The image that is found with these images in the namespaces `adieu` and `shop`, of which the first is the operator's.
    async fn found(adieu: &[&str], shop: &[&str]) -> Option<String> {
        let deployment = |image: &&str| {
            let containers =
                json!([{"name": "proxy", "image": "proxy:1"}, {"name": "adieu", "image": image}]);
            json!({"metadata": {"name": "adieu"}, "spec": {"template": {"spec": {"containers": containers}}}})
        };
        let list = |items: Vec<Value>| json!({"metadata": {}, "items": items});
        let [adieu, shop] = [adieu, shop].map(|images| list(images.iter().map(deployment).collect()));
        let webhook = |name: &str, namespace: &str| {
            json!({
                "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"service": {"name": "webhook", "namespace": namespace}},
            })
        };
        let webhooks = [webhook("workloads.adieu.dev", "adieu"), webhook("sidecars.example.com", "shop")];
        let configurations = list(vec![json!({"metadata": {"name": "adieu"}, "webhooks": webhooks})]);
        let client = client(move |_, target| {
            Some(match target.split('?').next().unwrap_or_default() {
                "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations" => {
                    (200, configurations.clone())
                }
                "/apis/apps/v1/namespaces/adieu/deployments" => (200, adieu.clone()),
                "/apis/apps/v1/namespaces/shop/deployments" => (200, shop.clone()),
                _ => (404, not_found()),
            })
        });
        operator_image(&client).await.unwrap()
    }

    #[tokio::test]
    async fn only_the_image_that_the_webhook_configuration_leads_to_is_trusted() {
        assert_eq!(found(&["adieu:1"], &[]).await.as_deref(), Some("adieu:1"));
        assert_eq!(found(&["adieu:1", "adieu:1"], &["theirs:1"]).await.as_deref(), Some("adieu:1"));
        assert_eq!(found(&[], &["theirs:1"]).await, None);
        assert_eq!(found(&["adieu:1", "adieu:2"], &[]).await, None);
    }
}
