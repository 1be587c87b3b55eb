-- Taking: the moment at which two operators want one order.
--
-- The broken way read the order, found it PENDING, and wrote. Here the claim is one UPDATE that
-- names the state it starts from, so of any number of operators the database lets one through; the
-- others read, in the same round trip, who it was. Before it the operator's seat is locked and
-- what he holds is counted: two takes of one operator follow one another, and the second sees the
-- first. The audit row and the effect are part of the same transaction: if they cannot be written,
-- the order was not taken.
--
-- Lock order, everywhere in this system: seat, order, stream; in id order within each.

-- Takes one order. Outcomes: ok (also for what one holds already: nothing changes then),
-- order_already_assigned, order_not_pending, order_not_found, forbidden, wip_limit_reached,
-- version_mismatch (where if_version is given).
create function orders.take(
    order_id uuid, actor uuid, role text default 'operator', family uuid[] default null,
    actor_name text default null, request_id text default null, if_version int default null,
    dry_run boolean default false)
returns table (code text, seen orders.order_seen, allowed text[], most bigint, replayed boolean)
language plpgsql as $$
#variable_conflict use_variable
declare
    o     orders.order;
    d     orders.desk_in_force;
    who   orders.caller := row(actor, coalesce(family, array[actor]), role, actor_name,
                               request_id);
    tried record;
begin
    -- Without a lock: whoever comes too late is answered from what is committed, and waits for
    -- nobody.
    select * into o from orders.order x
    where x.bucket = kernel.bucket_of(order_id) and x.id = order_id;
    select * into d from orders.desk_in_force x where x.bucket = o.bucket and x.id = o.desk_id;
    tried := orders._try_take(o, d, who, if_version, dry_run);
    if (tried.seen).id is null then
        return query select * from orders._tell(tried.outcome, order_id, who);
        return;
    end if;
    -- What was written is what is told: nothing is read again.
    code := 'ok'; replayed := false;
    seen := tried.seen;
    allowed := orders._allowed_to_holder(who.role);
    return next;
end $$;
select kernel.plan_by_index('orders.take');

-- Judges, then claims; `seen` where it was this call that took it.
create function orders._try_take(
    o orders.order, d orders.desk_in_force, who orders.caller, if_version int, dry_run boolean,
    out outcome text, out seen orders.order_seen)
language plpgsql as $$
#variable_conflict use_variable
declare
    seat record;
begin
    loop
        outcome := case
            -- Waiting, at a desk open to all operators: what is asked most often needs no judge.
            when o.status = 'PENDING' and not d.closed and if_version is null
                 and who.role in ('operator', 'supervisor', 'admin') then 'ok'
            else orders._may_take(o, d, who, if_version) end;
        if outcome <> 'ok' then
            outcome := case outcome when 'own' then 'ok' else outcome end;
            return;
        elsif dry_run then
            outcome := case when orders._has_room(d, who.id) then 'ok'
                       else 'wip_limit_reached' end;
            return;
        end if;
        seat := orders._sit(d, who.id, who.name);
        if not seat.has_room then
            outcome := 'wip_limit_reached';
            return;
        end if;
        seen := orders._claim(o, d, who, seat.holder_name, seat.moment);
        if seen.id is not null then
            return;
        end if;
        -- Somebody was faster. Read again what he made of it; back to PENDING is a new try.
        select * into strict o from orders.order x where x.bucket = o.bucket and x.id = o.id;
    end loop;
end $$;

create function orders._may_take(
    o orders.order, d orders.desk_in_force, who orders.caller, if_version int)
returns text language plpgsql stable as $$
declare
    outcome text := orders._judge('take', o, orders._works_at(d, who), true, who);
begin
    return case when outcome <> 'order_not_found' and if_version <> o.version
                then 'version_mismatch' else outcome end;
end $$;

-- Locks an operator's seat at a desk; makes it where he never sat there. Says his name there,
-- whether he may hold one more and what time it is, all as of the lock.
create function orders._sit(
    d orders.desk_in_force, operator_id uuid, operator_name text, out holder_name text,
    out has_room boolean, out moment timestamptz)
language plpgsql as $$
#variable_conflict use_variable
begin
    select s.name into holder_name from orders.seat s
    where s.bucket = d.bucket and s.desk_id = d.id and s.operator_id = operator_id for update;
    if not found then
        insert into orders.seat (bucket, desk_id, operator_id, name)
        values (d.bucket, d.id, operator_id, operator_name)
        on conflict on constraint seat_pkey do nothing;
        select s.name into strict holder_name from orders.seat s
        where s.bucket = d.bucket and s.desk_id = d.id and s.operator_id = operator_id for update;
    end if;
    if operator_name <> coalesce(holder_name, '') then
        update orders.seat s set name = operator_name
        where s.bucket = d.bucket and s.desk_id = d.id and s.operator_id = operator_id;
        holder_name := operator_name;
    end if;
    -- As in _has_room, and the time with it.
    select coalesce(count(*) < d.wip_limit, false), kernel.now() into has_room, moment
    from orders.order o
    where o.bucket = d.bucket and o.assigned_operator_id = operator_id
      and o.status = 'PROCESSING' and o.desk_id is not distinct from d.id;
end $$;

-- The claim itself, with its traces; null when the order was no longer free.
create function orders._claim(
    o orders.order, d orders.desk_in_force, who orders.caller, holder_name text,
    moment timestamptz)
returns orders.order_seen language plpgsql as $$
declare
    event uuid;
begin
    update orders.order x
    set status = 'PROCESSING', assigned_operator_id = who.id, assigned_at = moment,
        lease_until = moment + make_interval(secs => d.lease_seconds), version = x.version + 1,
        past_holders = array_remove(x.past_holders, who.id)
    where x.bucket = o.bucket and x.id = o.id and x.status = 'PENDING'
    returning x.* into o;
    if not found then
        return null;
    end if;
    -- Assigned, not performed: a `perform` is a query of its own.
    event := orders._trace(o, 'ASSIGNED_TO_OPERATOR', 'orders.taken', 'PENDING', who.id::text,
                           null, who.id::text, null, who.request_id, moment);
    return orders._show(o, d, holder_name);
end $$;

-- Takes the order of highest priority, then the oldest, that nobody is taking right now. Outcomes:
-- ok, empty, wip_limit_reached, forbidden, desk_not_found, idempotency_key_reused. A taker that
-- dies gives it back. With a key the same order is answered again, not the next one taken.
create function orders.take_next(
    desk text, actor uuid, role text default 'operator', family uuid[] default null,
    actor_name text default null, request_id text default null, key text default null)
returns table (code text, seen orders.order_seen, allowed text[], most bigint, replayed boolean)
language plpgsql set lock_timeout = '5s' as $$
#variable_conflict use_variable
declare
    who   orders.caller := row(actor, coalesce(family, array[actor]), role, actor_name,
                               request_id);
    d     orders.desk_in_force := orders._desk(desk);
    o     orders.order;
    heard record;
    seat  record;
begin
    code := case when d.id is null then 'desk_not_found'
                 when not orders._works_at(d, who) then 'forbidden' end;
    if code is null then
        heard := orders._heard(d.id, 'orders.take_next', actor, key, desk);
        if heard.standing is not null then
            return query select * from orders._tell(heard.standing, heard.result, who);
            return;
        end if;
        seat := orders._sit(d, who.id, who.name);
        most := d.wip_limit;
        code := case when not seat.has_room then 'wip_limit_reached' end;
    end if;
    if code is null then
        select * into o from orders.order x
        where x.bucket = d.bucket and x.desk_id = d.id and x.status = 'PENDING'
        order by x.priority desc, x.id
        limit 1
        for update skip locked;
        code := case when not found then 'empty' end;
    end if;
    if code is not null then
        return next;
        return;
    end if;
    seen := orders._claim(o, d, who, seat.holder_name, seat.moment);
    perform orders._remember(d.id, 'orders.take_next', actor, key, desk, o.id, seat.moment);
    code := 'ok'; replayed := false; most := null;
    allowed := orders._allowed_to_holder(role);
    return next;
end $$;
select kernel.plan_by_index('orders.take_next');

-- Takes several, in the order named, each with the outcome a single take would have; an id named
-- twice is judged once. Everything is locked beforehand, in lock order, so that two operators
-- who name the same orders in different order do not wait for each other.
create function orders.take_each(
    order_ids uuid[], actor uuid, role text default 'operator', family uuid[] default null,
    actor_name text default null, request_id text default null)
returns table (ord int, order_id uuid, code text, seen orders.order_seen, allowed text[],
               most bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    who  orders.caller := row(actor, coalesce(family, array[actor]), role, actor_name,
                              request_id);
    each record;
    o    orders.order;
    d    orders.desk_in_force;
    outcome text;
begin
    perform orders._lock_each(order_ids, case when role <> 'user' then actor end, actor_name);
    for each in select * from orders._named_once(order_ids) loop
        select * into o from orders.order x
        where x.bucket = kernel.bucket_of(each.id) and x.id = each.id;
        select * into d from orders.desk_in_force x
        where x.bucket = o.bucket and x.id = o.desk_id;
        outcome := (orders._try_take(o, d, who, null, false)).outcome;
        return query select each.n, each.id, t.code, t.seen, t.allowed, t.most
            from orders._tell(outcome, each.id, who) t;
    end loop;
end $$;
select kernel.plan_by_index('orders.take_each');

create function orders._named_once(order_ids uuid[])
returns table (id uuid, n int) language plpgsql immutable as $$
begin
    return query
    select u.id, min(u.n)::int from unnest(order_ids) with ordinality as u(id, n)
    group by u.id order by min(u.n);
end $$;

-- The seats of one operator (where one is named) at the orders' desks, the orders, their streams.
create function orders._lock_each(order_ids uuid[], operator_id uuid, operator_name text)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    desks orders.desk_in_force[];
    d     orders.desk_in_force;
begin
    select array_agg(x order by x.id) into desks from orders.desk_in_force x
    where (x.bucket, x.id) in (
        select o.bucket, o.desk_id from unnest(order_ids) u(id)
        join orders.order o on o.bucket = kernel.bucket_of(u.id) and o.id = u.id);
    if desks is null then
        return;
    end if;
    if operator_id is not null then
        foreach d in array desks loop
            perform orders._sit(d, operator_id, operator_name);
        end loop;
    end if;
    perform 1 from (select distinct u.id from unnest(order_ids) u(id)) u
    join orders.order o on o.bucket = kernel.bucket_of(u.id) and o.id = u.id
    order by o.id for update of o;
    perform outbox._lock(order_ids, true);
end $$;
