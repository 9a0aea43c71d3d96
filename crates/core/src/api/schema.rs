//! Regular expressions for the schema of policies (Kubernetes' `apimachinery`, `util/validation`).

use schemars::Schema;

/// The key of a label: a name of at most 63 characters, after an optional DNS subdomain.
pub(super) const QUALIFIED_NAME: &str = concat!(
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?",
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
);
/// The value of a label.
pub(super) const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
/// The path of an HTTP request: the characters of a URL (RFC 3986); others must be escaped.
pub(super) const PATH: &str = r"^/[-A-Za-z0-9._~!$&'()*+,;=:@%/?#\[\]]*$";
/// A built-in drain profile, or a class of Ingresses, Gateways or load balancers. Classes may have a slash in their names.
pub(super) const EXPOSURE: &str = concat!(
    "^([a-z0-9]([-a-z0-9]*[a-z0-9])?",
    "|(IngressClass|GatewayClass|LoadBalancerClass)/[A-Za-z0-9]([-A-Za-z0-9._/]*[A-Za-z0-9])?)$"
);
/// A time, such as `2026-01-31T12:00:00Z`.
pub(super) const TIME: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$";
/// Printable ASCII characters.
pub(super) const PRINTABLE: &str = "^[ -~]*$";
/// The name of a port: no two consecutive dashes, and at least one letter.
pub(super) const PORT_NAME: &str = "^([a-z0-9]+-)*[a-z0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$";

/// Keeps the description of a field with this enum, which kube would replace with the enum's.
pub(super) fn undescribed(schema: &mut Schema) {
    schema.remove("description");
}
