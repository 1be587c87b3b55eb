-- Moves: everything that happens to an order besides being taken.
--
-- Each locks the order, judges, and only then writes. Who lost an order is told so (lease_lost)
-- and writes nothing, however late he comes: `past_holders` remembers him.

-- Gives an order to the desk. Where a key is given, once per customer, desk and key: the same
-- payload again is answered by the order it made. Outcomes: ok, desk_not_found,
-- idempotency_key_reused.
create function orders.place(
    desk text, customer uuid, title text, details text default null, priority int default 0,
    key text default null, request_id text default null, role text default 'user')
returns table (code text, seen orders.order_seen, allowed text[], most bigint, replayed boolean)
language plpgsql set lock_timeout = '5s' as $$
#variable_conflict use_variable
declare
    who     orders.caller := row(customer, array[customer], role, null, request_id);
    d       orders.desk_in_force := orders._desk(desk);
    fresh   uuid;
    moment  timestamptz;
    heard   record;
    payload text := jsonb_build_array(title, details, priority);
begin
    if d.id is null then
        code := 'desk_not_found';
        return next;
        return;
    end if;
    heard := orders._heard(d.id, 'orders.place', customer, key, payload);
    if heard.standing is not null then
        return query select * from orders._tell(heard.standing, heard.result, who);
        return;
    end if;
    moment := kernel.now();
    fresh := kernel.new_id(d.bucket);
    perform orders._insert(fresh, d, who, title, details, priority, moment);
    perform orders._remember(d.id, 'orders.place', customer, key, payload, fresh, moment);
    return query select * from orders._tell('ok', fresh, who);
end $$;
select kernel.plan_by_index('orders.place');

-- What is urgent is due sooner: a tenth of the usual time at priority 9, half of it at 1.
create function orders._insert(
    fresh uuid, d orders.desk_in_force, who orders.caller, title text, details text, priority int,
    moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    o orders.order;
begin
    insert into orders.order (bucket, id, desk_id, customer_id, title, details, priority, due_at,
                              created_at)
    values (d.bucket, fresh, d.id, who.id, title, details, priority,
            moment + make_interval(secs => d.sla_seconds::float8 / (1 + priority)), moment)
    returning * into o;
    insert into outbox.stream (bucket, stream) values (o.bucket, o.id);
    perform orders._trace(o, 'orders.place', 'orders.placed', null, who.id::text, null, null, null,
                          who.request_id, moment);
end $$;

-- The holder lives: his lease begins anew. The version stays, nothing is announced.
create function orders.heartbeat(
    order_id uuid, actor uuid, role text default 'operator', family uuid[] default null,
    if_version int default null, dry_run boolean default false)
returns table (code text, seen orders.order_seen, allowed text[], most bigint, replayed boolean)
language plpgsql as $$
begin
    return query select * from orders._move('heartbeat', order_id,
        row(actor, coalesce(family, array[actor]), role, null, null)::orders.caller, if_version,
        dry_run, null, null);
end $$;

-- The holder gives it back by choice: it waits again, at its old place.
create function orders.release(
    order_id uuid, actor uuid, role text default 'operator', family uuid[] default null,
    request_id text default null, if_version int default null, dry_run boolean default false,
    key text default null)
returns table (code text, seen orders.order_seen, allowed text[], most bigint, replayed boolean)
language plpgsql as $$
begin
    return query select * from orders._move('release', order_id,
        row(actor, coalesce(family, array[actor]), role, null, request_id)::orders.caller,
        if_version, dry_run, null, key);
end $$;

-- The holder is done with it.
create function orders.complete(
    order_id uuid, actor uuid, role text default 'operator', family uuid[] default null,
    request_id text default null, if_version int default null, dry_run boolean default false,
    key text default null)
returns table (code text, seen orders.order_seen, allowed text[], most bigint, replayed boolean)
language plpgsql as $$
begin
    return query select * from orders._move('complete', order_id,
        row(actor, coalesce(family, array[actor]), role, null, request_id)::orders.caller,
        if_version, dry_run, null, key);
end $$;

-- Nobody needs it any more: says its customer or an operator while it waits, its holder or a
-- supervisor while it is worked on.
create function orders.cancel(
    order_id uuid, actor uuid, role text default 'user', family uuid[] default null,
    request_id text default null, if_version int default null, dry_run boolean default false,
    reason text default null, key text default null)
returns table (code text, seen orders.order_seen, allowed text[], most bigint, replayed boolean)
language plpgsql as $$
begin
    return query select * from orders._move('cancel', order_id,
        row(actor, coalesce(family, array[actor]), role, null, request_id)::orders.caller,
        if_version, dry_run, reason, key);
end $$;

create function orders._move(
    verb text, order_id uuid, who orders.caller, if_version int, dry_run boolean, reason text,
    key text)
returns table (code text, seen orders.order_seen, allowed text[], most bigint, replayed boolean)
language plpgsql set lock_timeout = '5s' as $$
#variable_conflict use_variable
declare
    o       orders.order;
    d       orders.desk_in_force;
    outcome text;
    moment  timestamptz;
    payload text := jsonb_build_array(order_id, reason);
begin
    select * into o from orders.order x
    where x.bucket = kernel.bucket_of(order_id) and x.id = order_id for update;
    select * into d from orders.desk_in_force x
    where x.bucket = o.bucket and x.id = o.desk_id;
    moment := kernel.now();
    outcome := orders._judge(verb, o, orders._works_at(d, who), true, who);
    if outcome <> 'order_not_found' then
        outcome := coalesce(
            (orders._heard(d.id, 'orders.' || verb, who.id, key, payload)).standing,
            case when if_version <> o.version then 'version_mismatch' end, outcome);
    end if;
    if outcome = 'ok' and not dry_run then
        perform orders._carry_out(verb, o, d, who.id::text, reason, who.request_id, moment);
        perform orders._remember(d.id, 'orders.' || verb, who.id, key, payload, o.id, moment);
    end if;
    return query select * from orders._tell(outcome, order_id, who);
end $$;
select kernel.plan_by_index('orders.release');
select kernel.plan_by_index('orders.complete');
select kernel.plan_by_index('orders.heartbeat');

-- Writes a judged move of a locked order, with its traces.
create function orders._carry_out(
    verb text, o orders.order, d orders.desk_in_force, actor text, reason text, request_id text,
    moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    was    orders.order := o;
    back   boolean := verb in ('release', 'lease_expired');
    target text := case verb when 'complete' then 'COMPLETED' when 'cancel' then 'CANCELLED'
                             else 'PENDING' end;
    topic  text := case verb when 'complete' then 'orders.completed'
                             when 'cancel' then 'orders.cancelled'
                             when 'release' then 'orders.released'
                             else 'orders.lease_expired' end;
begin
    if verb = 'heartbeat' then
        update orders.order x set lease_until = moment + make_interval(secs => d.lease_seconds)
        where x.bucket = o.bucket and x.id = o.id;
        return;
    end if;
    update orders.order x
    set status = target, lease_until = null, version = x.version + 1,
        assigned_operator_id = case when not back then x.assigned_operator_id end,
        assigned_at = case when not back then x.assigned_at end,
        past_holders = case when back then x.past_holders || x.assigned_operator_id
                            else x.past_holders end,
        finished_at = case when not back then moment end
    where x.bucket = o.bucket and x.id = o.id
    returning x.* into o;
    perform orders._trace(o, 'orders.' || verb, topic, was.status, actor,
        case when back then was.assigned_operator_id::text end, null, reason, request_id, moment);
end $$;

-- A supervisor hands held orders to another operator of their desks, with a reason: each with an
-- outcome of its own, in the order named, each id once. Outcomes: ok, forbidden,
-- order_not_processing, order_not_found, operator_not_found, wip_limit_reached, version_mismatch.
create function orders.reassign_each(
    order_ids uuid[], operator_id uuid, operator_role text, operator_name text, reason text,
    actor uuid, role text default 'supervisor', family uuid[] default null,
    request_id text default null, if_version int default null, dry_run boolean default false)
returns table (ord int, order_id uuid, code text, seen orders.order_seen, allowed text[],
               most bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    who  orders.caller := row(actor, coalesce(family, array[actor]), role, null, request_id);
    them orders.caller := row(operator_id, array[operator_id], operator_role, operator_name, null);
    each record;
    outcome text;
begin
    if role in ('supervisor', 'admin') and operator_role <> 'user' and not dry_run then
        perform orders._lock_each(order_ids, operator_id, operator_name);
    end if;
    for each in select * from orders._named_once(order_ids) loop
        outcome := orders._reassign(each.id, who, them, reason, if_version, dry_run);
        return query select each.n, each.id, t.code, t.seen, t.allowed, t.most
            from orders._tell(outcome, each.id, who) t;
    end loop;
end $$;
select kernel.plan_by_index('orders.reassign_each');

create function orders._reassign(
    order_id uuid, who orders.caller, them orders.caller, reason text, if_version int,
    dry_run boolean)
returns text language plpgsql as $$
#variable_conflict use_variable
declare
    o       orders.order;
    d       orders.desk_in_force;
    outcome text;
    moment  timestamptz := kernel.now();
    old     uuid;
begin
    select * into o from orders.order x
    where x.bucket = kernel.bucket_of(order_id) and x.id = order_id;
    select * into d from orders.desk_in_force x
    where x.bucket = o.bucket and x.id = o.desk_id;
    outcome := orders._judge('reassign', o, orders._works_at(d, who), true, who);
    old := o.assigned_operator_id;
    outcome := case
        when outcome <> 'order_not_found' and if_version <> o.version then 'version_mismatch'
        when outcome <> 'ok' then outcome
        when not orders._works_at(d, them) then 'operator_not_found'
        when old = them.id then 'own'
        when not orders._has_room(d, them.id) then 'wip_limit_reached'
        else 'ok' end;
    if outcome <> 'ok' or dry_run then
        return case outcome when 'own' then 'ok' else outcome end;
    end if;
    update orders.order x
    set assigned_operator_id = them.id, assigned_at = moment,
        lease_until = moment + make_interval(secs => d.lease_seconds), version = x.version + 1,
        past_holders = array_remove(x.past_holders, them.id) || old
    where x.bucket = o.bucket and x.id = o.id
    returning x.* into o;
    perform orders._trace(o, 'orders.reassign', 'orders.reassigned', 'PROCESSING', who.id::text,
                          old::text, them.id::text, reason, who.request_id, moment);
    return 'ok';
end $$;
