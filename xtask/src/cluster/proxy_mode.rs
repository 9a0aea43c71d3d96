//! The mode of kube-proxy.

use anyhow::{Context, Result};
use clap::ValueEnum;

/// The packet filter in which kube-proxy writes its rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProxyMode {
    /// Of the program iptables.
    #[default]
    Iptables,
    /// Of the program nft.
    Nftables,
}

impl ProxyMode {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }

    /// The mode with this name.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::value_variants().iter().find(|mode| mode.name() == name);
        found.copied().with_context(|| format!("{name:?} is not a mode of kube-proxy"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_round_trips_by_its_name() {
        for mode in ProxyMode::value_variants() {
            assert_eq!(ProxyMode::named(mode.name()).ok(), Some(*mode));
        }
        assert!(ProxyMode::named("ipvs").is_err());
    }
}
