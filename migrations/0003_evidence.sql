-- Usage with the journal positions that it came from, how far each replica has reported, and what is archived.

alter table replica add column watermark bigint not null default 0;
alter table replica add column reported_at bigint not null default 0;
-- It holds back no close any more; whatever it still ships is late.
alter table replica add column retired_at bigint;

-- A row for each cell and each start of a replica: replicas do not wait for each other, and each row can be recomputed from
-- the records first_sequence to last_sequence of one journal.
alter table usage_cell rename to usage_cell_without_positions;
create table usage_cell (
    partner_id text not null,
    key_id text not null,
    plan_id text not null,
    plan_version bigint not null,
    product text not null,
    meter text not null,
    cell_start bigint not null,
    replica_id text not null,
    epoch bigint not null,
    units bigint not null,
    waived_units bigint not null,
    records bigint not null,
    first_sequence bigint not null,
    last_sequence bigint not null,
    primary key (partner_id, cell_start, product, meter, plan_id, plan_version, key_id, replica_id, epoch)
);
insert into usage_cell
    select partner_id, key_id, plan_id, plan_version, product, meter, cell_start, '', 0, units, waived_units, records, 0, 0
    from usage_cell_without_positions;
drop table usage_cell_without_positions;

-- Where usage arrived behind its replica's watermark: an invoice may have been cut without it.
create table usage_late (
    partner_id text not null,
    cell_start bigint not null,
    primary key (partner_id, cell_start)
);

-- The journal's segments in the archive. sha256 is that of the whole file.
create table archived_segment (
    replica_id text not null,
    segment bigint not null,
    epoch bigint not null,
    first_sequence bigint not null,
    records bigint not null,
    bytes bigint not null,
    sha256 text not null,
    -- The earliest and latest admission in it; null in an empty one.
    first_at bigint,
    last_at bigint,
    archived_at bigint not null,
    -- Past retention: the object is gone, this row says what it was.
    removed_at bigint,
    primary key (replica_id, segment)
);
