-- Which data folder has a replica's id, as src/data_dir.rs tells folders apart; nothing after a clean stop. A copy of the folder has
-- the id only when the one that has it has been silent for the time of a lease.
alter table replica add column holder text not null default '';
