-- Journey products, as their files say. A name is used once; what a product that is retired read may be read again from then on.
create table journey_product (
    name text primary key,
    body text not null,
    applied_at bigint not null,
    retired_at bigint
);

-- What visitors' ids are hashed with. One row.
create table visitor_key (
    id bigint primary key,
    secret text not null
);
