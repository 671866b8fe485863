//! Charges: how the units of a meter become money.

use anyhow::{bail, ensure};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize};

use crate::metering::Meter;
use crate::money::PLACES;

/// The price of a meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Charge {
    /// What it counts.
    pub meter: Meter,
    /// Units of a whole month that cost nothing; prorated by days.
    pub included: u64,
    /// How those past them become money.
    pub model: Model,
}

/// How units become money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    /// Each unit costs the same.
    PerUnit(Decimal),
    /// Each unit costs what the tier costs that it falls into.
    Graduated(Tiers),
    /// All units cost what the tier costs that their number falls into.
    Volume(Tiers),
    /// Units are sold by the package; one that was begun is paid.
    Package {
        /// Units in it.
        units: u64,
        /// Money for one.
        price: Decimal,
    },
}

/// Tiers without gaps: each begins behind the one before it, the last has no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiers {
    /// Those that end: the last unit of each, and the price of one.
    pub ending: Vec<(u64, Decimal)>,
    /// The price of a unit past all of them.
    pub last: Decimal,
}

/// A tier as plans write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tier {
    /// Its last unit; none: it does not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    up_to: Option<u64>,
    #[serde(deserialize_with = "exact")]
    unit_price: Decimal,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    PerUnit,
    Graduated,
    Volume,
    Package,
}

/// A charge as plans write it, and as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    meter: Meter,
    model: Name,
    #[serde(default)]
    included: u64,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_exact")]
    unit_price: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tiers: Option<Vec<Tier>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    package_units: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_exact")]
    package_price: Option<Decimal>,
}

impl TryFrom<Written> for Charge {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { meter, model, included, unit_price, tiers, package_units, package_price } = written;
        let model = match (model, unit_price, tiers, package_units, package_price) {
            (Name::PerUnit, Some(price), None, None, None) => Model::PerUnit(price),
            (Name::Graduated, None, Some(tiers), None, None) => Model::Graduated(Tiers::new(meter, tiers)?),
            (Name::Volume, None, Some(tiers), None, None) => Model::Volume(Tiers::new(meter, tiers)?),
            (Name::Package, None, None, Some(units), Some(price)) => Model::Package { units, price },
            (name, ..) => {
                let (name, has) = match name {
                    Name::PerUnit => ("per_unit", "unit_price alone"),
                    Name::Graduated => ("graduated", "tiers alone"),
                    Name::Volume => ("volume", "tiers alone"),
                    Name::Package => ("package", "package_units and package_price alone"),
                };
                return Err(format!("the charge of \"{meter}\" is {name}, which has {has} (and included)"));
            }
        };
        Ok(Self { meter, included, model })
    }
}

impl From<Charge> for Written {
    fn from(charge: Charge) -> Self {
        let Charge { meter, included, model } = charge;
        let none = Self {
            meter,
            model: Name::PerUnit,
            included,
            unit_price: None,
            tiers: None,
            package_units: None,
            package_price: None,
        };
        match model {
            Model::PerUnit(price) => Self { unit_price: Some(price), ..none },
            Model::Graduated(tiers) => Self { model: Name::Graduated, tiers: Some(tiers.written()), ..none },
            Model::Volume(tiers) => Self { model: Name::Volume, tiers: Some(tiers.written()), ..none },
            Model::Package { units, price } => {
                Self { model: Name::Package, package_units: Some(units), package_price: Some(price), ..none }
            }
        }
    }
}

impl Tiers {
    fn new(meter: Meter, mut tiers: Vec<Tier>) -> Result<Self, String> {
        let of = |message: &str| format!("the tiers of \"{meter}\" {message}");
        let last = tiers.pop().ok_or_else(|| of("are empty: give at least one, without up_to"))?;
        if let Some(end) = last.up_to {
            return Err(of(&format!("end at {end}: leave up_to out of the last one, so that each unit has a price")));
        }
        let mut ending = Vec::with_capacity(tiers.len());
        let mut before = 0;
        for tier in tiers {
            let end = tier.up_to.ok_or_else(|| of("have one without up_to before the last: only the last has no end"))?;
            if end <= before {
                return Err(of(&format!("overlap: one ends at {end}, but the one before it at {before}; let them ascend")));
            }
            before = end;
            ending.push((end, tier.unit_price));
        }
        Ok(Self { ending, last: last.unit_price })
    }

    fn written(self) -> Vec<Tier> {
        let ending = self.ending.into_iter().map(|(end, unit_price)| Tier { up_to: Some(end), unit_price });
        ending.chain([Tier { up_to: None, unit_price: self.last }]).collect()
    }

    /// Each tier: its first unit, its last one, and the price of one.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Option<u64>, Decimal)> {
        let ends = self.ending.iter().map(|(end, price)| (Some(*end), *price)).chain([(None, self.last)]);
        let begins = [1].into_iter().chain(self.ending.iter().map(|(end, _)| end.saturating_add(1)));
        begins.zip(ends).map(|(from, (to, price))| (from, to, price))
    }
}

impl Charge {
    /// Of the plan `id`.
    pub(super) fn check(&self, id: &str) -> anyhow::Result<()> {
        let meter = self.meter;
        let price = |name: &str, price: Decimal| {
            ensure!(
                !price.is_sign_negative() && price.scale() <= PLACES && price <= Decimal::from(1_000_000),
                "the plan \"{id}\" has {name} = \"{price}\" for \"{meter}\": give 0 to 1000000 with at most {PLACES} decimal places"
            );
            Ok(())
        };
        match &self.model {
            Model::PerUnit(unit_price) => price("unit_price", *unit_price),
            Model::Graduated(tiers) | Model::Volume(tiers) => {
                if tiers.ending.len() >= 100 {
                    bail!("the plan \"{id}\" has more than 100 tiers for \"{meter}\": leave some out");
                }
                tiers.iter().try_for_each(|(_, _, unit_price)| price("unit_price", unit_price))
            }
            Model::Package { units, price: of_one } => {
                ensure!(*units > 0, "the plan \"{id}\" has package_units = 0 for \"{meter}\": give at least 1");
                price("package_price", *of_one)
            }
        }
    }
}

/// Text only: a TOML or JSON number would have been a float on its way here.
pub(super) fn exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    let text = String::deserialize(deserializer)?;
    Decimal::from_str_exact(&text)
        .map_err(|_| serde::de::Error::custom(format!("\"{text}\" is no decimal: write for example unit_price = \"0.002\"")))
}

/// The same where it may be left out.
pub(super) fn some_exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Decimal>, D::Error> {
    exact(deserializer).map(Some)
}
