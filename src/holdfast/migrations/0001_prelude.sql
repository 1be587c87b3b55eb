-- The prelude: what every table of Holdfast stands on.
--
-- Every id knows where it lives. `bucket` is the last byte of the owning account's UUIDv7, every id
-- made for that owner ends in the same byte, and `bucket` leads every key of an owned table. On one
-- server that costs two bytes a row; on a distributed one it is the distribution column. It cannot
-- be added later, so it is here from the first migration.
--
-- Functions in this schema are versioned here, not re-created at install: CHECK constraints and
-- triggers depend on them.

create schema kernel;
create schema transitions;
create schema audit;
create schema idempotency;
create schema ledger;
create schema outbox;
create schema queue;

-- Limits that the database itself must know (the welcome bonus is paid by a trigger, which no
-- server passes arguments to). Written by `holdfast migrate` from the environment.
create table kernel.setting (
    name  text primary key,
    value text not null
);

insert into kernel.setting (name, value)
values ('welcome_bonus', '100'), ('refund_grace_hours', '72'), ('idempotency_hours', '24');

-- Tests shift time by this row. Only the owner may write it; production refuses to start
-- when it is not zero.
create table kernel.clock (
    only_row boolean primary key default true check (only_row),
    shift    interval not null default interval '0'
);
insert into kernel.clock default values;

-- The time, read once after the lock and passed on. Never now(): that is the time at which the
-- transaction began, possibly long before it got its lock.
create function kernel.now() returns timestamptz
language sql volatile parallel safe
return clock_timestamp() + (select shift from kernel.clock);

create function kernel.bucket_of(id uuid) returns smallint
language sql immutable strict parallel safe
return get_byte(uuid_send(id), 15)::smallint;

-- UUIDv7s for owners' buckets: 48 bits of milliseconds, 12 bits of the fraction below, 54 bits that
-- start at random and count up, the bucket. A batch draws one seed (the clock and the random source
-- are system calls, dearer than inserting the row) and makes its ids by counting from it.
create type kernel.seed as (high bytea, low bigint);

create function kernel.new_seed() returns kernel.seed
language plpgsql volatile parallel safe as $$
declare
    micros bigint := extract(epoch from clock_timestamp()) * 1000000;
begin
    return (int8send((micros / 1000) << 16 | 28672 | (micros % 1000) * 4),
            ('x' || right(gen_random_uuid()::text, 12))::bit(48)::bigint << 6);
end $$;

create function kernel.nth_id(high bytea, low bigint, n bigint, bucket smallint) returns uuid
language sql immutable parallel safe
return encode(high || int8send((-9223372036854775808)::bigint
                               | (((low + n) & 18014398509481983) << 8) | bucket), 'hex')::uuid;

create function kernel.new_id(bucket smallint) returns uuid
language plpgsql volatile parallel safe as $$
declare
    seed kernel.seed := kernel.new_seed();
begin
    return kernel.nth_id(seed.high, seed.low, 0, bucket);
end $$;

-- A limit the database itself must know. An unknown name is a bug, and is told as one.
create function kernel.setting_number(called text) returns bigint
language plpgsql stable as $$
declare
    found_value text;
begin
    select s.value into found_value from kernel.setting s where s.name = called;
    if found_value is null then
        raise exception 'no setting "%" in kernel.setting', called
            using errcode = 'KH000', hint = 'Run holdfast migrate.';
    end if;
    return found_value::bigint;
end $$;

-- A hot verb finds every row by an index, whatever the tables hold when its plans are made. Left
-- alone the planner chooses for the table as it is at the first call, often empty, and keeps that
-- plan: a full scan that was right for no rows serves a million. With these settings a probe costs
-- next to nothing and a row passed by costs much, so the choice is the same on day one and later.
create function kernel.plan_by_index(called regproc) returns void
language plpgsql as $$
begin
    execute format('alter function %s
        set plan_cache_mode = force_generic_plan set jit = off
        set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off
        set enable_mergejoin = off set enable_material = off
        set random_page_cost = 0.01 set cpu_tuple_cost = 1', called::regprocedure);
end $$;

-- The second wall. The application role cannot write at all; these triggers refuse the owner and
-- hand-written SQL too.
create function kernel.refuse_change() returns trigger
language plpgsql as $$
begin
    raise exception '% of %.% refused: its rows are written once and stay',
        lower(tg_op), tg_table_schema, tg_table_name
        using errcode = 'KH002', hint = 'Write a correcting row that says why (holdfast mend).';
end $$;

-- The catalogue of machines: statuses and edges, declared once beside the verbs that walk them.
create table transitions.machine (
    machine  text primary key,
    entity   text not null unique,     -- 'queue.job'
    initial  text not null
);

create table transitions.status (
    machine  text not null references transitions.machine on delete cascade,
    status   text not null,
    position smallint not null,
    primary key (machine, status)
);

create table transitions.edge (
    machine     text not null,
    verb        text not null,
    from_status text not null,
    to_status   text not null,
    who         text not null,
    action      text not null,         -- what the audit calls it
    primary key (machine, verb, from_status, to_status),
    foreign key (machine, from_status) references transitions.status on delete cascade,
    foreign key (machine, to_status) references transitions.status on delete cascade
);

create function transitions.refuse_start() returns trigger
language plpgsql as $$
begin
    raise exception 'a new row of %.% starts as %, not as %',
        tg_table_schema, tg_table_name, tg_argv[0], to_jsonb(new) ->> 'status'
        using errcode = 'KH003', hint = 'GET /api/machines shows every status and edge.';
end $$;

create function transitions.refuse_move() returns trigger
language plpgsql as $$
begin
    raise exception '%.% % may not go from % to %', tg_table_schema, tg_table_name,
        to_jsonb(new) ->> 'id', to_jsonb(old) ->> 'status', to_jsonb(new) ->> 'status'
        using errcode = 'KH001', hint = 'GET /api/machines shows every status and edge.';
end $$;

-- Who moved what from which state to which, when, in which request.
create table audit.event (
    bucket      smallint not null check (bucket = kernel.bucket_of(id)),
    entity_id   uuid not null,
    id          uuid not null,
    entity      text not null,          -- 'job', 'order', …: the machine's name
    action      text not null,
    from_status text,
    to_status   text,
    actor       text not null,          -- an account's id, 'worker:…', 'sweeper', 'sql:role'
    old_value   text,
    new_value   text,
    reason      text,
    request_id  text,
    at          timestamptz not null,
    primary key (bucket, entity_id, id)
);

create trigger append_only before update or delete on audit.event
    for each row execute function kernel.refuse_change();
create trigger never_truncated before truncate on audit.event
    for each statement execute function kernel.refuse_change();

-- A move made by hand-written SQL leaves its trace too. The verbs write their own (they know
-- the actor and the request), so this trigger is created with a condition on the current user.
-- It writes as the definer, so that a user's own table may have a machine too: whoever moves its
-- rows has no right to write audit rows himself.
create function audit.trace_raw() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    row_id uuid := (to_jsonb(new) ->> 'id')::uuid;
    home   smallint := kernel.bucket_of(row_id);
begin
    insert into audit.event (bucket, entity_id, id, entity, action, from_status, to_status,
                             actor, at)
    values (home, row_id, kernel.new_id(home), tg_argv[0], tg_argv[0] || '.raw_sql',
            to_jsonb(old) ->> 'status', to_jsonb(new) ->> 'status', 'sql:' || session_user,
            kernel.now());
    return null;
end $$;

-- One key table per owner. The ledger's key *is* this row: same key and payload, the outcome again.
-- Only success binds a key: a refusal for lack of funds burns nothing.
create table idempotency.key (
    bucket      smallint not null check (bucket = kernel.bucket_of(account_id)),
    account_id  uuid not null,
    verb        text not null,
    key         text not null check (length(key) between 1 and 255),
    fingerprint bytea not null,
    result_id   uuid,
    outcome     jsonb,
    forget_at   timestamptz,            -- null: kept for ever (money)
    at          timestamptz not null,
    primary key (bucket, account_id, verb, key)
);
create index key_forget on idempotency.key (forget_at) where forget_at is not null;
