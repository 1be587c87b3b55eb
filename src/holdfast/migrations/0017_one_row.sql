-- A move of one row, in a transaction of its own, is mostly preparation: each statement reads and
-- plans every CHECK of its table anew, each expression of a function is set up once a transaction.
-- What the moves of one order touch is written for that: few expressions, one short check.

-- The order's check calls one function: its text is short, and what it compiles to is kept.
create function orders._whole(o orders.order) returns boolean
language plpgsql immutable as $$
begin
    return (o.status = 'PROCESSING') = (o.lease_until is not null)
        and (o.status <> 'PENDING' or o.assigned_operator_id is null)
        and (o.status <> 'PROCESSING' or o.assigned_operator_id is not null)
        and (o.assigned_operator_id is null) = (o.assigned_at is null)
        and length(o.title) between 1 and 200 and coalesce(length(o.details), 0) <= 10000
        and o.priority between 0 and 9
        and o.bucket = get_byte(uuid_send(o.id), 15)
        and o.bucket = get_byte(uuid_send(o.desk_id), 15);
end $$;

alter table orders.order
    drop constraint held_while_processing,
    add constraint held_while_processing check (orders._whole("order"));

-- Every move counts the version, so a take asks one question here.
create or replace function orders.mark_changed() returns trigger
language plpgsql as $$
begin
    if old.version <> new.version then
        new.changed_in := pg_current_xact_id()::text::bigint;
    elsif (old.status, old.breached_at, old.title, old.assigned_operator_id)
          is distinct from (new.status, new.breached_at, new.title, new.assigned_operator_id) then
        new.changed_in := pg_current_xact_id()::text::bigint;
    end if;
    return new;
end $$;

-- One id: the same parts as a batch's (milliseconds, their fraction in 1/4096, chance, bucket), as
-- one expression over the time in 1/4096 of a millisecond.
create or replace function kernel.new_id(bucket smallint) returns uuid
language sql volatile parallel safe
return (overlay(substr(encode(int8send(
            (date_part('epoch', clock_timestamp()) * 4096000)::bigint), 'hex'), 2)
            placing '7' from 13 for 0)
        || substr(gen_random_uuid()::text, 20, 15)
        || right(encode(int2send(bucket), 'hex'), 2))::uuid;

create or replace function kernel.new_seed() returns kernel.seed
language sql volatile parallel safe
return row(decode(overlay(substr(encode(int8send(
               (date_part('epoch', clock_timestamp()) * 4096000)::bigint), 'hex'), 2)
               placing '7' from 13 for 0), 'hex'),
           ('x' || right(gen_random_uuid()::text, 12))::bit(48)::bigint << 6)::kernel.seed;
