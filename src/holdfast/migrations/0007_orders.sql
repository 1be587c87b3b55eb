-- The order desk: one order, one operator, always, and everybody can see who.
--
-- An order's owner is its desk: the order, its audit, its effects and the key of its placing live
-- in the desk's bucket, with the operators' seats at that desk, so a take touches one bucket. A
-- desk's bucket comes from its name, so a name is looked up in one bucket too.
--
-- The stream of effects is the order itself, not the desk: what must stay in order is the story of
-- one order, and a stream's row is locked until the commit. A desk with one stream would let
-- whoever keeps a transaction open on one order stop everybody who works there.

create schema orders;

insert into kernel.setting (name, value)
values ('order_lease_seconds', '900'), ('order_wip_limit', '10'), ('order_sla_seconds', '3600');

create table orders.desk (
    bucket        smallint not null check (bucket = kernel.bucket_of(id)),
    id            uuid not null,
    name          text not null check (name ~ '^[a-z0-9-]{1,40}$'),
    closed        boolean not null default false,    -- works with the operators it names only
    lease_seconds int check (lease_seconds > 0),     -- null: the installation's setting
    wip_limit     int check (wip_limit > 0),
    sla_seconds   int check (sla_seconds > 0),
    created_at    timestamptz not null,
    primary key (bucket, id),
    unique (bucket, name)
);

-- An operator at a desk. A take locks this row, then counts what he holds, then claims: there is
-- no counter that could drift. The name is what others read on the orders he holds.
create table orders.seat (
    bucket      smallint not null check (bucket = kernel.bucket_of(desk_id)),
    desk_id     uuid not null,
    operator_id uuid not null,
    name        text check (length(name) between 1 and 200),
    named       boolean not null default false,      -- by a supervisor, for this desk
    primary key (bucket, desk_id, operator_id),
    foreign key (bucket, desk_id) references orders.desk
) with (fillfactor = 80);
create index seat_of_operator on orders.seat (operator_id);

create table orders.order (
    bucket               smallint not null check (bucket = kernel.bucket_of(id)),
    id                   uuid not null,
    desk_id              uuid not null check (bucket = kernel.bucket_of(desk_id)),
    customer_id          uuid not null,
    status               text not null default 'PENDING',
    title                text not null check (length(title) between 1 and 200),
    details              text check (length(details) <= 10000),
    priority             smallint not null default 0 check (priority between 0 and 9),
    assigned_operator_id uuid,
    assigned_at          timestamptz,
    lease_until          timestamptz,   -- without a sign of life until then, it goes back
    past_holders         uuid[] not null default '{}',   -- who had it and lost it
    due_at               timestamptz not null,
    breached_at          timestamptz,   -- when its lateness was announced
    version              int not null default 1,
    created_at           timestamptz not null,
    finished_at          timestamptz,
    -- The transaction that changed it last: how whoever watches asks for what is new. Not a time
    -- and not a number that is drawn before the commit: those become visible out of order.
    changed_in           bigint not null default pg_current_xact_id()::text::bigint,
    primary key (bucket, id),
    foreign key (bucket, desk_id) references orders.desk,
    constraint held_while_processing check (case status
        when 'PENDING' then assigned_operator_id is null and lease_until is null
        when 'PROCESSING' then assigned_operator_id is not null and lease_until is not null
        else lease_until is null end),
    constraint assigned_at_a_time check ((assigned_operator_id is null) = (assigned_at is null))
) with (fillfactor = 70);

create index order_of_desk on orders.order (desk_id, status, priority desc, id);
create index order_of_customer on orders.order (customer_id, id);
create index order_held on orders.order (bucket, assigned_operator_id)
    where status = 'PROCESSING';
create index order_lease on orders.order (lease_until) where status = 'PROCESSING';
create index order_late on orders.order (due_at)
    where breached_at is null and status in ('PENDING', 'PROCESSING');

create index order_changed on orders.order (changed_in);

create function orders.mark_changed() returns trigger
language plpgsql as $$
begin
    new.changed_in := pg_current_xact_id()::text::bigint;
    return new;
end $$;

-- A sign of life changes nothing that others see, so it marks nothing.
create trigger mark_changed before update on orders.order
    for each row when (
        (old.version, old.status, old.breached_at, old.title, old.assigned_operator_id)
        is distinct from
        (new.version, new.status, new.breached_at, new.title, new.assigned_operator_id))
    execute function orders.mark_changed();

-- Who asks, as the verbs hand it on among themselves. `family`: himself and his aliases.
create type orders.caller as (
    id         uuid,
    family     uuid[],
    role       text,
    name       text,
    request_id text
);

-- The desk that is always there.
insert into orders.desk (bucket, id, name, created_at)
select kernel.bucket_of(m.id), m.id, 'main', kernel.now()
from kernel.new_id(get_byte(sha256(convert_to('main', 'UTF8')), 0)::smallint) as m(id);
