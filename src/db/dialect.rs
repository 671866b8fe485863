//! All that differs between SQLite and PostgreSQL.

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Embedded.
    Sqlite,
    /// Production.
    Postgres,
}

impl Dialect {
    /// By the URL's scheme.
    pub fn of(url: &str) -> Self {
        if url.starts_with("sqlite:") { Self::Sqlite } else { Self::Postgres }
    }

    /// Run on each new connection.
    pub(super) fn on_connect(self) -> &'static [&'static str] {
        match self {
            // synchronous = full: a shipped watermark must not outlive its rows, nor the other way round, on power loss.
            Self::Sqlite => &[
                "pragma busy_timeout = 10000",
                "pragma journal_mode = wal",
                "pragma synchronous = full",
                "pragma foreign_keys = on",
            ],
            Self::Postgres => &[],
        }
    }

    /// A deferred SQLite transaction that first reads and then writes fails instead of waiting its turn.
    pub(super) fn begin_write(self) -> &'static str {
        match self {
            Self::Sqlite => "begin immediate",
            // Who is suspended or cut off in the middle of one would keep what it locked for good: a partner's month, for all gateways.
            // The server takes it back after this time without a statement.
            Self::Postgres => "begin; set local idle_in_transaction_session_timeout = '10s'",
        }
    }

    /// Reads that belong together.
    pub(super) fn begin_read(self) -> &'static str {
        match self {
            Self::Sqlite => "begin",
            Self::Postgres => "begin isolation level repeatable read read only",
        }
    }

    /// Reads that belong together, and writes.
    pub(super) fn begin_write_snapshot(self) -> &'static str {
        match self {
            Self::Sqlite => "begin immediate",
            Self::Postgres => "begin isolation level repeatable read",
        }
    }

    /// Microseconds since the epoch by the database's clock.
    pub(super) fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "select cast(unixepoch('subsec') * 1000 as integer) * 1000",
            Self::Postgres => "select cast(extract(epoch from clock_timestamp()) * 1000000 as bigint)",
        }
    }

    /// `VALUES` groups for a batch: `$N` is quadratic on SQLite, and `?` unknown to PostgreSQL.
    pub fn values(self, rows: usize, columns: usize) -> String {
        let mut text = String::with_capacity(rows * columns * 5);
        for row in 0..rows {
            text.push_str(if row == 0 { "(" } else { ", (" });
            for column in 0..columns {
                if column > 0 {
                    text.push_str(", ");
                }
                match self {
                    Self::Sqlite => text.push('?'),
                    Self::Postgres => text.push_str(&format!("${}", row * columns + column + 1)),
                }
            }
            text.push(')');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_written_in_each_databases_words() {
        assert_eq!(Dialect::Sqlite.values(2, 2), "(?, ?), (?, ?)");
        assert_eq!(Dialect::Postgres.values(2, 2), "($1, $2), ($3, $4)");
    }
}
