//! Names of keys. All of one partition share a hash tag, so that a cluster has them in one slot and a script can write them in
//! one step; the tags are chosen so that the partitions spread evenly over the slots.

use anyhow::ensure;

use crate::event::partition_of;
use crate::feature::scope::Column;

const SLOTS: usize = 16_384;

/// Those of one generation.
pub(super) struct Keys {
    pub(super) generation: u32,
    /// By partition, with its braces.
    tags: Vec<String>,
}

pub(super) fn check_prefix(prefix: &str) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    ensure!(
        (1..=64).contains(&prefix.len()) && prefix.chars().all(plain),
        "\"{prefix}\" is no prefix of keys: use 1 to 64 letters, digits and - _ . :"
    );
    Ok(())
}

pub(super) fn layout(prefix: &str) -> String {
    format!("{prefix}:layout")
}

impl Keys {
    pub(super) fn new(prefix: &str, generation: u32, partitions: u16) -> Self {
        Self { generation, tags: (0..partitions).map(|partition| tag(prefix, generation, partition, partitions)).collect() }
    }

    pub(super) fn partition(&self, sku: &str) -> u16 {
        partition_of(sku, self.tags.len() as u16)
    }

    fn tag(&self, partition: u16) -> &str {
        &self.tags[usize::from(partition)]
    }

    /// Where the partition stands.
    pub(super) fn head(&self, partition: u16) -> String {
        format!("{}:h", self.tag(partition))
    }

    /// While it is there, nothing is written to the partition.
    pub(super) fn seal(&self, partition: u16) -> String {
        format!("{}:seal", self.tag(partition))
    }

    /// What is true of a SKU.
    pub(super) fn view(&self, partition: u16, sku: &str) -> String {
        format!("{}:v:{sku}", self.tag(partition))
    }

    /// Prices of the past. The length keeps a SKU and a market apart, whatever is in them.
    pub(super) fn past(&self, partition: u16, sku: &str, market: &str) -> String {
        format!("{}:p:{}:{sku}:{market}", self.tag(partition), sku.len())
    }

    /// All SKUs.
    pub(super) fn all(&self, partition: u16) -> String {
        format!("{}:a", self.tag(partition))
    }

    /// An answer of a journey product: `PRODUCT:ENTRY`.
    pub(super) fn journey(&self, partition: u16, name: &str) -> String {
        format!("{}:j:{name}", self.tag(partition))
    }

    /// The names of all such answers.
    pub(super) fn journeys(&self, partition: u16) -> String {
        format!("{}:jl", self.tag(partition))
    }

    /// The SKUs whose `column` is `value`.
    pub(super) fn column(&self, partition: u16, column: Column, value: &str) -> String {
        let letter = match column {
            Column::Brand => 'b',
            Column::Category => 'c',
            Column::Supplier => 's',
            Column::Location => 'l',
            Column::Market => 'm',
        };
        format!("{}:{letter}:{value}", self.tag(partition))
    }
}

/// The first tag that falls into the partition's share of the slots.
fn tag(prefix: &str, generation: u32, partition: u16, partitions: u16) -> String {
    let (partition_at, partitions) = (usize::from(partition), usize::from(partitions));
    let start = partition_at * SLOTS / partitions;
    let end = ((partition_at + 1) * SLOTS / partitions).max(start + 1);
    let mut salt = 0_u32;
    loop {
        let tag = format!("{prefix}:g{generation}:p{partition}:{salt}");
        if (start..end).contains(&slot(&tag)) {
            return format!("{{{tag}}}");
        }
        salt += 1;
    }
}

fn slot(tag: &str) -> usize {
    usize::from(crc16(tag.as_bytes())) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_spread_evenly_over_the_slots() {
        // The specification's own check value.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for partitions in [1, 3, 12, 100] {
            let keys = Keys::new("tg", 0, partitions);
            for partition in 0..partitions {
                let tag = keys.tag(partition).trim_matches(['{', '}']).to_owned();
                assert_eq!(slot(&tag) * usize::from(partitions) / SLOTS, usize::from(partition), "{tag}");
            }
        }
    }

    #[test]
    fn no_two_things_have_one_key() {
        let keys = Keys::new("tg", 0, 2);
        assert_ne!(keys.past(0, "A:B", "C"), keys.past(0, "A", "B:C"));
        assert!(check_prefix("shop-1:tg").is_ok());
        for wrong in ["", "a{b", "a b"] {
            assert!(check_prefix(wrong).is_err(), "{wrong}");
        }
    }
}
