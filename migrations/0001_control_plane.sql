-- Who may ask what, and at what price. Portable between SQLite and PostgreSQL: src/db/mod.rs says how.

-- Bumped in the transaction of every change below; gateways look for it.
create table control (
    id bigint primary key,
    version bigint not null
);
insert into control (id, version) values (1, 1);

-- A published plan version never changes.
create table plan (
    id text not null,
    version bigint not null,
    body text not null,
    published_at bigint not null,
    primary key (id, version)
);

create table partner (
    id text primary key,
    name text not null unique,
    timezone text not null,
    scope text not null,
    suspended bigint not null,
    created_at bigint not null
);

create table subscription (
    id text primary key,
    partner_id text not null references partner (id),
    plan_id text not null,
    plan_version bigint not null,
    starts_at bigint not null,
    ends_at bigint,
    foreign key (plan_id, plan_version) references plan (id, version)
);
create index subscription_by_partner on subscription (partner_id, starts_at);

create table api_key (
    id text primary key,
    partner_id text not null references partner (id),
    mode text not null,
    -- JSON list of products; null: all that the plan sells.
    products text,
    -- JSON list of CIDR blocks; null: from anywhere.
    addresses text,
    -- JSON {"rate": {"units_per_second", "burst"}, "quota_units"}; null: the plan's limits alone.
    budget text,
    suspended bigint not null,
    expires_at bigint,
    revoked_at bigint,
    -- Written in batches, so a moment late; no part of the control plane's version.
    last_used_at bigint,
    created_at bigint not null
);
create index api_key_by_partner on api_key (partner_id);

-- More than one is good while a rotation's overlap lasts. One without an end is good for as long as its key.
create table api_key_secret (
    key_id text not null references api_key (id),
    secret_sha256 text not null,
    created_at bigint not null,
    ends_at bigint,
    primary key (key_id, secret_sha256)
);

create table producer (
    id text primary key,
    name text not null,
    sources text not null,
    secret_sha256 text not null,
    revoked_at bigint,
    created_at bigint not null
);
