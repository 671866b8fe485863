-- How much of a partner's month each replica may use: leased ahead, so that no number of replicas goes past a quota or a spend cap.

-- Locked while grants of the month change.
create table budget_month (
    partner_id text not null,
    month_start bigint not null,
    month_end bigint not null,
    -- When a replica last found nothing left: the others then give back what they do not use.
    wanted_at bigint not null,
    primary key (partner_id, month_start)
);
-- Every gateway looks for what is wanted now.
create index budget_month_by_want on budget_month (wanted_at);

-- Counted from the month's start, so that a replica can say again what it holds, and what it used lies within.
create table budget_grant (
    partner_id text not null,
    month_start bigint not null,
    replica_id text not null,
    -- Of a key's quota: the key. Of a spend cap: the plan version and the meter. Of the plan's quota: nothing of the three.
    key_id text not null,
    plan_id text not null,
    plan_version bigint not null,
    meter text not null,
    units bigint not null,
    primary key (partner_id, month_start, replica_id, key_id, plan_id, plan_version, meter)
);
create index budget_grant_by_replica on budget_grant (replica_id);
