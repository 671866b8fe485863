//! Where the shop sells: markets with their currency, and the locations that hold its stock.

pub(super) struct Market {
    pub(super) name: &'static str,
    pub(super) currency: &'static str,
    /// Price level, in percent of the catalogue's.
    pub(super) price_percent: u32,
    /// How far below the round sum a price ends.
    pub(super) cents_below: u32,
}

pub(super) const MARKETS: [Market; 3] = [
    Market { name: "DE", currency: "EUR", price_percent: 100, cents_below: 1 },
    Market { name: "AT", currency: "EUR", price_percent: 101, cents_below: 1 },
    Market { name: "CH", currency: "CHF", price_percent: 112, cents_below: 5 },
];

pub(super) struct Location {
    pub(super) name: &'static str,
    /// The market it sells in: an index of [`MARKETS`].
    pub(super) market: usize,
}

pub(super) const LOCATIONS: [Location; 5] = [
    Location { name: "BER-1", market: 0 },
    Location { name: "MUC-1", market: 0 },
    Location { name: "HAM-1", market: 0 },
    Location { name: "VIE-1", market: 1 },
    Location { name: "ZRH-1", market: 2 },
];
