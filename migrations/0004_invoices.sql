-- From usage to money. What is finalized never changes: src/db/guards.rs puts triggers on these tables.

-- Usage before it is free: the trial of a partner's first subscription.
alter table subscription add column trial_ends_at bigint;

-- JSON: legal name, address, tax id, tax rate or exemption, as invoices print them.
alter table partner add column billing text not null default '{}';

-- From which month on a partner's months are those of which time zone; partner.timezone is the newest.
create table partner_timezone (
    partner_id text not null references partner (id),
    first_period text not null,
    timezone text not null,
    primary key (partner_id, first_period)
);
insert into partner_timezone select id, '0001-01', timezone from partner;

-- A cut: how far each journal was in the ledger when an invoice's usage was read.
create table journal_cut (
    id text not null,
    replica_id text not null,
    epoch bigint not null,
    sequence bigint not null,
    primary key (id, replica_id, epoch)
);

-- Numbers without gaps: the row is locked by the transaction that takes one.
create table number_series (
    id text primary key,
    taken bigint not null
);

create table invoice (
    id text primary key,
    partner_id text not null,
    period text not null,
    currency text not null,
    -- draft, finalized, paid or void.
    state text not null,
    -- Taken when it is finalized; void keeps it.
    number text unique,
    cut_id text not null,
    -- The document as JSON, and the SHA-256 of exactly these bytes.
    body text not null,
    sha256 text not null,
    subtotal bigint not null,
    tax bigint not null,
    total bigint not null,
    created_at bigint not null,
    finalized_at bigint,
    paid_at bigint,
    voided_at bigint,
    void_reason text
);
create unique index invoice_by_partner on invoice (partner_id, period, currency) where state <> 'void';
create index invoice_by_period on invoice (period, partner_id);
-- Void ones too: what was billed when is asked for each partner.
create index invoice_of_partner on invoice (partner_id, period);

-- A run found nothing to bill: the month is closed for the partner all the same, and usage that comes later is late.
create table month_closed (
    partner_id text not null,
    period text not null,
    cut_id text not null,
    closed_at bigint not null,
    primary key (partner_id, period)
);

create table invoice_line (
    invoice_id text not null references invoice (id),
    line bigint not null,
    kind text not null,
    -- The month that it is for: an earlier one is an adjustment, a later one is paid in advance.
    period text not null,
    plan_id text not null,
    plan_version bigint not null,
    -- Empty for what is not usage.
    product text not null,
    meter text not null,
    -- All of that month, as they were when the invoice was made; null for what is not usage.
    units bigint,
    amount bigint not null,
    primary key (invoice_id, line)
);

create table credit_note (
    id text primary key,
    number text not null unique,
    invoice_id text not null references invoice (id),
    body text not null,
    sha256 text not null,
    net bigint not null,
    tax bigint not null,
    total bigint not null,
    created_at bigint not null
);
create index credit_note_by_invoice on credit_note (invoice_id);

-- Double entry: the amounts of a transaction sum to zero, in minor units of one currency. Debits are positive.
create table money_transaction (
    id text primary key,
    -- invoice, void, credit_note or payment.
    kind text not null,
    document_id text not null,
    partner_id text not null,
    currency text not null,
    posted_at bigint not null,
    unique (kind, document_id)
);
create table money_entry (
    transaction_id text not null references money_transaction (id),
    -- receivable, revenue, credits, tax or cash.
    account text not null,
    amount bigint not null,
    primary key (transaction_id, account)
);

-- Which set of triggers is in place: src/db/guards.rs.
create table guard (
    version bigint primary key
);
