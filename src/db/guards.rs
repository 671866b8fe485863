//! What the database itself refuses: changes of what is finalized, posted or published. Triggers are written differently in
//! SQLite and PostgreSQL, so they are made here from one list, once, after the migrations.

use sqlx::{AnyConnection, AssertSqlSafe, Executor, Row};

use super::dialect::Dialect;

/// Raised when the list below changes.
const VERSION: i64 = 1;

/// A row that may not be touched so.
struct Guard {
    name: &'static str,
    table: &'static str,
    event: &'static str,
    /// When it is refused.
    when: &'static str,
    /// In these words.
    words: &'static str,
}

const FINAL_INVOICE: &str = "old.number is not null and (new.number is null or new.number <> old.number or new.id <> old.id \
     or new.partner_id <> old.partner_id or new.period <> old.period or new.currency <> old.currency or new.cut_id <> old.cut_id \
     or new.body <> old.body or new.sha256 <> old.sha256 or new.subtotal <> old.subtotal or new.tax <> old.tax \
     or new.total <> old.total or new.created_at <> old.created_at or new.finalized_at <> old.finalized_at \
     or new.state = 'draft' or (old.state = 'void' and new.state <> 'void') or (old.state = 'paid' and new.state <> 'paid'))";

const GUARDS: [Guard; 14] = [
    Guard {
        name: "invoice_final",
        table: "invoice",
        event: "update",
        when: FINAL_INVOICE,
        words: "a finalized invoice never changes",
    },
    Guard {
        name: "invoice_kept",
        table: "invoice",
        event: "delete",
        when: "old.number is not null",
        words: "a finalized invoice is kept",
    },
    Guard {
        name: "invoice_line_final",
        table: "invoice_line",
        event: "update",
        when: "1 = 1",
        words: "a line of an invoice never changes",
    },
    Guard {
        name: "credit_note_final",
        table: "credit_note",
        event: "update",
        when: "1 = 1",
        words: "a credit note never changes",
    },
    Guard { name: "credit_note_kept", table: "credit_note", event: "delete", when: "1 = 1", words: "a credit note is kept" },
    Guard {
        name: "money_transaction_final",
        table: "money_transaction",
        event: "update",
        when: "1 = 1",
        words: "the ledger is append-only",
    },
    Guard {
        name: "money_transaction_kept",
        table: "money_transaction",
        event: "delete",
        when: "1 = 1",
        words: "the ledger is append-only",
    },
    Guard { name: "money_entry_final", table: "money_entry", event: "update", when: "1 = 1", words: "the ledger is append-only" },
    Guard { name: "money_entry_kept", table: "money_entry", event: "delete", when: "1 = 1", words: "the ledger is append-only" },
    Guard {
        name: "number_series_steps",
        table: "number_series",
        event: "update",
        when: "new.id <> old.id or new.taken <> old.taken + 1",
        words: "numbers are taken one by one",
    },
    Guard {
        name: "number_series_kept",
        table: "number_series",
        event: "delete",
        when: "1 = 1",
        words: "a series of numbers is kept",
    },
    Guard { name: "journal_cut_final", table: "journal_cut", event: "update", when: "1 = 1", words: "a cut never changes" },
    Guard { name: "plan_final", table: "plan", event: "update", when: "1 = 1", words: "a published plan version never changes" },
    Guard { name: "plan_kept", table: "plan", event: "delete", when: "1 = 1", words: "a published plan version is kept" },
];

/// A line belongs to its invoice: once that is finalized, none comes and none goes. It looks into another table, which
/// PostgreSQL allows in a function only.
const LINES: [(&str, &str, &str); 2] = [("invoice_line_closed", "insert", "new"), ("invoice_line_kept", "delete", "old")];
const LINES_WORDS: &str = "the lines of a finalized invoice are kept as they are";

/// Makes the triggers, unless they are there.
pub(super) async fn set(connection: &mut AnyConnection, dialect: Dialect) -> anyhow::Result<()> {
    if dialect == Dialect::Postgres {
        connection.execute("lock table guard in exclusive mode").await?;
    }
    let row = sqlx::query("select cast(coalesce(max(version), 0) as bigint) from guard").fetch_one(&mut *connection).await?;
    if row.try_get::<i64, _>(0)? >= VERSION {
        return Ok(());
    }
    for text in statements(dialect) {
        // Made of this file's own words.
        connection.execute(AssertSqlSafe(text)).await?;
    }
    sqlx::query("insert into guard (version) values ($1)").bind(VERSION).execute(connection).await?;
    Ok(())
}

fn statements(dialect: Dialect) -> Vec<String> {
    let of_lines = "select 1 from invoice where id = WHOSE.invoice_id and number is not null";
    match dialect {
        Dialect::Sqlite => {
            let trigger = |name: &str, event: &str, table: &str, when: &str, words: &str| {
                format!("create trigger {name} before {event} on {table} when {when} begin select raise(abort, '{words}'); end")
            };
            let guards = GUARDS.iter().map(|it| trigger(it.name, it.event, it.table, it.when, it.words));
            let lines = LINES.iter().map(|(name, event, whose)| {
                let when = format!("exists ({})", of_lines.replace("WHOSE", whose));
                trigger(name, event, "invoice_line", &when, LINES_WORDS)
            });
            guards.chain(lines).collect()
        }
        Dialect::Postgres => {
            let refuse = "create function tollgate_refuse() returns trigger language plpgsql as \
                          'begin raise exception ''%'', tg_argv[0]; end'"
                .to_owned();
            let guards = GUARDS.iter().map(|it| {
                format!(
                    "create trigger {} before {} on {} for each row when ({}) execute function tollgate_refuse('{}')",
                    it.name, it.event, it.table, it.when, it.words
                )
            });
            let lines = LINES.iter().flat_map(|(name, event, whose)| {
                let exists = of_lines.replace("WHOSE", whose);
                [
                    format!(
                        "create function {name}() returns trigger language plpgsql as \
                         'begin if exists ({exists}) then raise exception ''%'', tg_argv[0]; end if; return {whose}; end'"
                    ),
                    format!(
                        "create trigger {name} before {event} on invoice_line for each row execute function {name}('{}')",
                        LINES_WORDS
                    ),
                ]
            });
            std::iter::once(refuse).chain(guards).chain(lines).collect()
        }
    }
}
