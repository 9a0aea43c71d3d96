//! The webhook's certificates: adieu's own CA, and the serving certificate that it signs, stored in a Secret that
//! every replica reads and the leader renews.

mod rotation;
mod rotator;
mod secret;
mod store;
mod x509;

use clap::ValueEnum;

pub use self::{
    rotator::{CertificateRotator, report},
    secret::Certificates,
    store::{CertificateStore, Error},
};

/// The component that manages the certificates and the caBundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CertificateManagement {
    /// adieu, with its own CA.
    SelfManaged,
    /// Another component, such as cert-manager; adieu only reads the Secret.
    External,
}
