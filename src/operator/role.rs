//! What an operator may do.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A role. Each may do what the ones after it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Invoices, credit notes and their exports.
    Finance,
    /// Looking on, but not at money.
    Viewer,
}

impl Role {
    /// Whether it may do what takes `needed`.
    pub fn may(self, needed: Self) -> bool {
        self.rank() >= needed.rank()
    }

    fn rank(self) -> u8 {
        match self {
            Self::Admin => 2,
            Self::Finance => 1,
            Self::Viewer => 0,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Admin => "admin",
            Self::Finance => "finance",
            Self::Viewer => "viewer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Role::{Admin, Finance, Viewer};

    #[test]
    fn each_role_may_do_what_the_ones_after_it_may() {
        let all = [Admin, Finance, Viewer];
        let may: Vec<_> = all.iter().flat_map(|role| all.iter().map(|needed| role.may(*needed))).collect();
        assert_eq!(may, [true, true, true, false, true, true, false, false, true]);
    }
}
