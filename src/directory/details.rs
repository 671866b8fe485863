//! What invoices print of a partner, and how it is taxed.

use anyhow::{Context, bail, ensure};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::billing::document::Party;
use crate::money::Currency;

/// A buyer. Stored as JSON with its partner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Details {
    /// The legal name; the partner's name where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_name: Option<String>,
    /// Line by line, the country last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<String>,
    /// Such as a VAT number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<String>,
    /// Where invoices go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Percent; none: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_rate: Option<Decimal>,
    /// Why there is no tax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemption: Option<String>,
    /// What it is billed in; none: whatever its plan says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
}

impl Details {
    /// As an invoice prints it.
    pub fn party(&self, name: &str) -> Party {
        Party {
            name: self.legal_name.clone().unwrap_or_else(|| name.to_owned()),
            address: self.address.clone(),
            tax_id: self.tax_id.clone(),
            email: self.email.clone(),
            payment: Vec::new(),
        }
    }

    /// Percent on its invoices.
    pub fn tax_rate(&self) -> Decimal {
        self.tax_rate.filter(|_| self.exemption.is_none()).unwrap_or_default()
    }

    /// Sets the tax from what an operator writes: a rate in percent (`19`, `7.7`), or `exempt: REASON`.
    pub fn set_tax(&mut self, text: &str) -> anyhow::Result<()> {
        if let Some(reason) = text.strip_prefix("exempt:").map(str::trim) {
            ensure!(
                !reason.is_empty(),
                "an exemption needs its reason, as the invoice prints it: --tax \"exempt: reverse charge\""
            );
            (self.tax_rate, self.exemption) = (None, Some(plain("the exemption's reason", reason)?));
            return Ok(());
        }
        let rate = Decimal::from_str_exact(text)
            .ok()
            .filter(|rate| !rate.is_sign_negative() && *rate <= Decimal::ONE_HUNDRED && rate.normalize().scale() <= 4);
        let Some(rate) = rate else {
            bail!(
                "\"{}\" is no tax rate: give percent from 0 to 100 with at most 4 decimal places, such as 19, or \"exempt: REASON\"",
                text.escape_default()
            );
        };
        (self.tax_rate, self.exemption) = (Some(rate), None);
        Ok(())
    }

    /// Sets the currency.
    pub fn set_currency(&mut self, code: &str) -> anyhow::Result<()> {
        let currency = Currency::from_code(code);
        self.currency = Some(
            currency
                .with_context(|| format!("\"{}\" is no currency of ISO 4217: give a code such as EUR", code.escape_default()))?,
        );
        Ok(())
    }
}

/// Text that may be printed: one line of at most 200 bytes.
pub fn plain(what: &str, text: &str) -> anyhow::Result<String> {
    ensure!(
        !text.trim().is_empty() && text.len() <= 200 && !text.chars().any(char::is_control),
        "{what} has 1 to 200 bytes and no control characters"
    );
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tax_is_a_rate_or_a_reason() {
        let mut details = Details::default();
        details.set_tax("7.7").unwrap();
        assert_eq!(details.tax_rate().to_string(), "7.7");
        details.set_tax("exempt: reverse charge").unwrap();
        assert_eq!((details.tax_rate(), details.exemption.as_deref()), (Decimal::ZERO, Some("reverse charge")));
        for wrong in ["-1", "101", "19%", "exempt:", "1.23456", ""] {
            assert!(details.set_tax(wrong).is_err(), "{wrong}");
        }
    }
}
