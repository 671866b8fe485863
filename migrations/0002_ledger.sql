-- Usage, folded from the journals of all replicas. Rows and watermark move in one transaction.

create table replica (
    id text primary key,
    epoch bigint not null,
    started_at bigint not null
);

-- Records of (replica, epoch) up to and with this sequence are in usage_cell.
create table journal_watermark (
    replica_id text not null,
    epoch bigint not null,
    sequence bigint not null,
    primary key (replica_id, epoch)
);

-- No reference to partner: the journal is the evidence, and what it holds must be countable whatever became of the control plane.
-- Cells of 15 minutes UTC, so that any time zone's month is a sum of whole cells.
create table usage_cell (
    partner_id text not null,
    key_id text not null,
    plan_id text not null,
    plan_version bigint not null,
    product text not null,
    meter text not null,
    cell_start bigint not null,
    units bigint not null,
    waived_units bigint not null,
    records bigint not null,
    primary key (partner_id, cell_start, product, meter, plan_id, plan_version, key_id)
);
