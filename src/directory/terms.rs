//! The terms that an API key is issued on: what it may do, within what its partner may.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, ensure};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::billing::plan::Rate;
use crate::clock::Micros;
use crate::metering::{Mode, Product};

const UNITS_PER_SECOND_MAX: u32 = 100_000;
const BURST_MAX: u32 = 1_000_000;
/// Far above any bill, and far below where sums of units end.
const QUOTA_MAX: u64 = 1_000_000_000_000_000;
/// Each request is compared with all of them.
const ADDRESSES_MAX: usize = 100;

/// What an API key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTerms {
    /// Whether its answers are billed.
    pub mode: Mode,
    /// It is no longer good from then on.
    pub expires_at: Option<Micros>,
    /// Of what the plan sells, this alone; none: all of it.
    pub products: Option<BTreeSet<Product>>,
    /// It is good from there alone; empty: from anywhere.
    pub addresses: Vec<IpNet>,
    /// Limits of its own, in addition to its partner's.
    pub budget: Option<KeyBudget>,
}

/// A key's own limits, in addition to its partner's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyBudget {
    /// How fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Units a billing month; those of live keys count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_units: Option<u64>,
}

impl Default for KeyTerms {
    /// Live and unrestricted.
    fn default() -> Self {
        Self { mode: Mode::Live, expires_at: None, products: None, addresses: Vec::new(), budget: None }
    }
}

impl KeyTerms {
    /// As they are kept, or the sentence that refuses them.
    pub(super) fn checked(mut self, now: Micros) -> anyhow::Result<Self> {
        if let Some(expires_at) = self.expires_at {
            ensure!(expires_at > now, "a key that expires at {expires_at} would be of no use: give an instant in the future");
        }
        if let Some(products) = &self.products {
            ensure!(
                !products.is_empty(),
                "a key restricted to no product would be of no use: name one, or leave it unrestricted"
            );
        }
        self.addresses = self.addresses.iter().map(canonical).collect::<BTreeSet<_>>().into_iter().collect();
        ensure!(
            self.addresses.len() <= ADDRESSES_MAX,
            "a key may be restricted to {ADDRESSES_MAX} addresses at most, not to {}: sum them up in networks",
            self.addresses.len()
        );
        self.budget = self.budget.filter(|budget| *budget != KeyBudget::default());
        if let Some(KeyBudget { rate: Some(rate), .. }) = self.budget {
            ensure!(
                (1..=UNITS_PER_SECOND_MAX).contains(&rate.units_per_second),
                "a key's budget of {} units a second is impossible: give 1 to {UNITS_PER_SECOND_MAX}",
                rate.units_per_second
            );
            ensure!(
                (1..=BURST_MAX).contains(&rate.burst),
                "a key's burst of {} units is impossible: give 1 to {BURST_MAX}",
                rate.burst
            );
        }
        if let Some(KeyBudget { quota_units: Some(quota), .. }) = self.budget {
            ensure!(self.mode == Mode::Live, "a test key uses no quota: leave its quota out");
            ensure!((1..=QUOTA_MAX).contains(&quota), "a key's quota of {quota} units is impossible: give 1 to {QUOTA_MAX}");
        }
        Ok(self)
    }
}

/// The products of these names; none of none, which is no restriction.
pub fn products<'a>(names: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Option<BTreeSet<Product>>> {
    let named = |name: &'a str| {
        Product::ALL.into_iter().find(|product| product.as_str() == name).with_context(|| {
            let known = Product::ALL.map(Product::as_str).join(", ");
            format!("\"{}\" is no product: known are {known}", name.escape_debug())
        })
    };
    let products = names.into_iter().map(named).collect::<anyhow::Result<BTreeSet<_>>>()?;
    Ok((!products.is_empty()).then_some(products))
}

/// A network in CIDR notation, or the one address.
pub fn network(text: &str) -> anyhow::Result<IpNet> {
    let read = match text.contains('/') {
        true => text.parse().ok(),
        false => text.parse::<IpAddr>().ok().map(IpNet::from),
    };
    let network: IpNet = read.with_context(|| {
        format!("\"{}\" is no address: write for example 203.0.113.9, 10.0.0.0/8 or 2001:db8::/32", text.escape_debug())
    })?;
    // Either part may be the mistyped one, and one reading opens the key to far more than the other.
    ensure!(
        network.addr() == network.network(),
        "\"{text}\" is no network: write {} for the network, or {} for the one address",
        network.trunc(),
        network.addr()
    );
    Ok(canonical(&network))
}

/// IPv4 in the clothes of IPv6 (RFC 4291, 2.5.5.2) is IPv4: callers are told apart that way too.
fn canonical(network: &IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let v4 = mapped.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    v4.map_or(*network, IpNet::V4).trunc()
}

/// Whether a caller at `address` is within `networks`; none restrict nobody.
pub fn allows(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.is_empty() || networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(terms: KeyTerms) -> String {
        terms.checked(Micros(10)).unwrap_err().to_string()
    }

    fn budget(units_per_second: u32, burst: u32, quota_units: u64) -> KeyTerms {
        let rate = Some(Rate { units_per_second, burst });
        KeyTerms { budget: Some(KeyBudget { rate, quota_units: Some(quota_units) }), ..KeyTerms::default() }
    }

    #[test]
    fn terms_at_their_bounds_are_kept_and_past_them_refused() {
        assert_eq!(KeyTerms::default().checked(Micros(10)).unwrap(), KeyTerms::default());
        for good in [budget(1, 1, 1), budget(100_000, 1_000_000, 1_000_000_000_000_000)] {
            assert_eq!(good.clone().checked(Micros(10)).unwrap(), good);
        }
        for (bad, words) in [
            (budget(0, 1, 1), "0 units a second"),
            (budget(100_001, 1, 1), "1 to 100000"),
            (budget(1, 0, 1), "burst of 0"),
            (budget(1, 1_000_001, 1), "1 to 1000000"),
            (budget(1, 1, 0), "quota of 0"),
            (budget(1, 1, 1_000_000_000_000_001), "1 to 1000000000000000"),
            (KeyTerms { expires_at: Some(Micros(10)), ..KeyTerms::default() }, "in the future"),
            (KeyTerms { products: Some(BTreeSet::new()), ..KeyTerms::default() }, "no product"),
        ] {
            assert!(refused(bad.clone()).contains(words), "{bad:?}");
        }
        let many: Vec<IpNet> = (0..=100).map(|n| network(&format!("10.0.0.{n}")).unwrap()).collect();
        assert!(refused(KeyTerms { addresses: many, ..KeyTerms::default() }).contains("100 addresses at most, not to 101"));
        let empty = KeyTerms { budget: Some(KeyBudget::default()), ..KeyTerms::default() };
        assert_eq!(empty.checked(Micros(10)).unwrap(), KeyTerms::default(), "a budget without limits is none");
    }

    #[test]
    fn networks_are_read_from_cidr_and_plain_addresses() {
        for (text, read) in [
            ("203.0.113.9", "203.0.113.9/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:203.0.113.9", "203.0.113.9/32"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), read);
        }
        for wrong in
            ["", "here", "10.0.0.0/33", "10.0.0", "10.0.0.0/", "/8", "10.0.0.0/8/8", "2001:db8::/129", "1.2.3.4 ", "a\nb"]
        {
            let error = network(wrong).unwrap_err().to_string();
            assert!(error.contains("is no address") && !error.contains('\n'), "{error}");
        }
        let unsure = network("10.1.2.3/8").unwrap_err().to_string();
        assert_eq!(unsure, "\"10.1.2.3/8\" is no network: write 10.0.0.0/8 for the network, or 10.1.2.3 for the one address");
    }

    #[test]
    fn callers_are_compared_as_what_they_are() {
        let networks = [network("10.0.0.0/8").unwrap(), network("2001:db8::/32").unwrap()];
        for (address, allowed) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:11.0.0.1", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(allows(&networks, address.parse().unwrap()), allowed, "{address}");
            assert!(allows(&[], address.parse().unwrap()));
        }
    }

    #[test]
    fn unknown_products_are_refused_with_the_list() {
        assert_eq!(products([]).unwrap(), None);
        assert_eq!(products(["pricing", "pricing"]).unwrap(), Some(BTreeSet::from([Product::Pricing])));
        assert_eq!(products(["gold"]).unwrap_err().to_string(), "\"gold\" is no product: known are inventory, pricing, journey");
    }
}
