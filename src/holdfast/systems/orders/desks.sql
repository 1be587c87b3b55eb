-- Desks: where orders wait and who works on them.
--
-- The rules of who may do what stand once, in _judge: the verbs ask it under the order's lock,
-- and `allowed` asks it for every verb at once, so what a button promises is what a try gets.

select transitions.declare('order', 'orders.order', $$
    PENDING, PROCESSING, COMPLETED, CANCELLED
    take:          PENDING → PROCESSING (operator of the desk) as ASSIGNED_TO_OPERATOR
    take_next:     PENDING → PROCESSING (operator of the desk) as ASSIGNED_TO_OPERATOR
    release:       PROCESSING → PENDING (holder)
    lease_expired: PROCESSING → PENDING (sweeper)
    reassign:      PROCESSING → PROCESSING (supervisor)
    complete:      PROCESSING → COMPLETED (holder)
    cancel:        PENDING | PROCESSING → CANCELLED (customer, operator, holder, supervisor)
$$);

-- An order as people see it: with its desk's name and its holder's.
create view orders.order_seen as
    select o.bucket, o.id, o.desk_id, d.name as desk, o.status, o.title, o.details, o.priority,
           o.customer_id, o.assigned_operator_id, s.name as holder_name, o.assigned_at,
           o.lease_until, o.due_at, o.breached_at, o.version, o.created_at, o.finished_at
    from orders.order o
    join orders.desk d on d.bucket = o.bucket and d.id = o.desk_id
    left join orders.seat s on s.bucket = o.bucket and s.desk_id = o.desk_id
         and s.operator_id = o.assigned_operator_id;

create function orders._home(desk text) returns smallint
language sql stable parallel safe
return get_byte(sha256(convert_to(desk, 'UTF8')), 0)::smallint;

-- A desk with the limits that are in force: its own, or the installation's.
create view orders.desk_in_force as
    select d.bucket, d.id, d.name, d.closed,
           coalesce(d.lease_seconds, (select s.value::int from kernel.setting s
                                      where s.name = 'order_lease_seconds')) as lease_seconds,
           coalesce(d.wip_limit, (select s.value::int from kernel.setting s
                                  where s.name = 'order_wip_limit')) as wip_limit,
           coalesce(d.sla_seconds, (select s.value::int from kernel.setting s
                                    where s.name = 'order_sla_seconds')) as sla_seconds,
           d.created_at
    from orders.desk d;

create function orders._desk(called text) returns orders.desk_in_force
language plpgsql stable as $$
declare
    found_desk orders.desk_in_force;
begin
    select * into found_desk from orders.desk_in_force d
    where d.bucket = orders._home(called) and d.name = called;
    return found_desk;
end $$;

create function orders._works_at(d orders.desk_in_force, who orders.caller) returns boolean
language plpgsql stable as $$
begin
    if who.role in ('supervisor', 'admin') then
        return true;
    elsif who.role is distinct from 'operator' then
        return false;
    elsif not d.closed then
        return true;
    end if;
    return exists (select from orders.seat s where s.bucket = d.bucket and s.desk_id = d.id
                   and s.operator_id = any (who.family) and s.named);
end $$;

-- Whether an operator may hold one more at this desk. Only whoever locked the seat (_sit) knows it.
-- `is not distinct from` keeps the planner from the index by desk: made when few orders were being
-- worked on, that plan would count everybody's.
create function orders._has_room(d orders.desk_in_force, operator_id uuid) returns boolean
language plpgsql stable as $$
#variable_conflict use_variable
begin
    return (select count(*) from orders.order o
            where o.bucket = d.bucket and o.assigned_operator_id = operator_id
              and o.status = 'PROCESSING' and o.desk_id is not distinct from d.id)
           < d.wip_limit;
end $$;

-- What _judge_all says to the holder of an order that is being worked on.
create function orders._allowed_to_holder(role text) returns text[]
language sql immutable parallel safe
return array['own', 'ok', 'ok', 'ok',
             case when role in ('supervisor', 'admin') then 'ok' else 'forbidden' end, 'ok'];

-- What a try of each verb on this order would get (take, release, complete, heartbeat, reassign,
-- cancel): ok, own (taking what one has), or the refusal.
create function orders._judge_all(
    o orders.order, works_here boolean, has_room boolean, who orders.caller)
returns text[] language plpgsql immutable as $$
declare
    above    boolean := who.role in ('supervisor', 'admin');
    had      boolean := o.assigned_operator_id = any (who.family);
    theirs   boolean;
    finished boolean;
    lost     boolean;
    holders  text;      -- release, complete, heartbeat: the holder's
begin
    if works_here and had and o.status = 'PROCESSING' then  -- the holder, asked about most often
        return orders._allowed_to_holder(who.role);
    end if;
    theirs := o.customer_id = any (who.family);
    if o.id is null or (coalesce(who.role, 'user') = 'user' and not theirs) then
        return array_fill('order_not_found'::text, array[6]);
    end if;
    finished := o.status in ('COMPLETED', 'CANCELLED');
    lost := o.past_holders && who.family;
    holders := case when had and not finished then 'ok' when lost then 'lease_lost'
                    when had then 'order_not_processing' else 'forbidden' end;
    return array[
        case when not works_here then 'forbidden'
             when o.status = 'PROCESSING' then 'order_already_assigned'
             when finished then 'order_not_pending'
             when not has_room then 'wip_limit_reached'
             else 'ok' end,
        holders, holders, holders,
        case when not above then 'forbidden'
             when o.status <> 'PROCESSING' then 'order_not_processing'
             else 'ok' end,
        case when holders = 'ok' or (above and not finished) then 'ok'
             when o.status = 'PENDING' and (theirs or works_here) then 'ok'
             when lost then 'lease_lost'
             when finished and (theirs or works_here) then 'order_not_pending'
             else 'forbidden' end];
end $$;

create function orders._judge(
    verb text, o orders.order, works_here boolean, has_room boolean, who orders.caller)
returns text language plpgsql immutable as $$
begin
    return (orders._judge_all(o, works_here, has_room, who))[array_position(
        array['take', 'release', 'complete', 'heartbeat', 'reassign', 'cancel'], verb)];
end $$;

-- The same for whoever looks at it, for buttons.
create function orders._allowed(o orders.order, d orders.desk_in_force, who orders.caller)
returns text[] language plpgsql stable as $$
declare
    works boolean := orders._works_at(d, who);
    room  boolean := not works or o.status <> 'PENDING' or orders._has_room(d, who.id);
begin
    return orders._judge_all(o, works, room, who);
end $$;

-- The answer of a verb: its code, and the order as it is now. Nothing of an order is shown to
-- somebody to whom it does not exist.
create function orders._tell(outcome text, order_id uuid, who orders.caller)
returns table (code text, seen orders.order_seen, allowed text[], most bigint, replayed boolean)
language plpgsql stable as $$
#variable_conflict use_variable
declare
    o orders.order;
    d orders.desk_in_force;
begin
    replayed := outcome = 'replay';
    code := case when replayed then 'ok' else outcome end;
    if outcome not in ('order_not_found', 'desk_not_found', 'empty') then
        select * into strict o from orders.order x
        where x.bucket = kernel.bucket_of(order_id) and x.id = order_id;
        select * into strict d from orders.desk_in_force x
        where x.bucket = o.bucket and x.id = o.desk_id;
        seen := orders._see(o, d);
        allowed := orders._allowed(o, d, who);
        most := case when outcome = 'wip_limit_reached' then d.wip_limit end;
    end if;
    return next;
end $$;

-- A row of the view, from what has been read already.
create function orders._see(o orders.order, d orders.desk_in_force) returns orders.order_seen
language plpgsql stable as $$
declare
    holder_name text;
begin
    if o.assigned_operator_id is not null then
        select s.name into holder_name from orders.seat s
        where s.bucket = o.bucket and s.desk_id = o.desk_id
          and s.operator_id = o.assigned_operator_id;
    end if;
    return orders._show(o, d, holder_name);
end $$;

create function orders._show(o orders.order, d orders.desk_in_force, holder_name text)
returns orders.order_seen language sql immutable parallel safe
return row(o.bucket, o.id, o.desk_id, d.name, o.status, o.title, o.details, o.priority,
           o.customer_id, o.assigned_operator_id, holder_name, o.assigned_at, o.lease_until,
           o.due_at, o.breached_at, o.version, o.created_at, o.finished_at)::orders.order_seen;

-- Whether this request was answered before: null where it was not (or names no key), `replay`, or
-- idempotency_key_reused. Keys live in the desk's bucket; twins queue for the key itself, because
-- two of them may name different orders and meet at no row.
create function orders._heard(
    desk_id uuid, verb text, actor uuid, key text, payload text, out standing text,
    out result uuid)
language plpgsql as $$
declare
    judged record;
begin
    if key is null then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtextextended(concat_ws(' ', verb, actor, key), 0));
    judged := idempotency._judge(array[desk_id], concat_ws(':', verb, actor), array[key],
                                 array[idempotency._fingerprint(payload)]);
    standing := nullif(judged.standings[1], 'fresh');
    result := judged.results[1];
end $$;

create function orders._remember(
    desk_id uuid, verb text, actor uuid, key text, payload text, result uuid, moment timestamptz)
returns void language plpgsql as $$
begin
    if key is not null then
        perform idempotency._bind(array[desk_id], concat_ws(':', verb, actor), array[key],
            array[idempotency._fingerprint(payload)], array[result], moment,
            moment + make_interval(hours => kernel.setting_number('idempotency_hours')::int));
    end if;
end $$;

-- One trace of a move: the audit row and the effect, under one id (returned), in the order's
-- stream. The order's row is locked.
create function orders._trace(
    o orders.order, action text, topic text, from_status text, actor text, old_value text,
    new_value text, reason text, request_id text, at timestamptz, out event uuid)
language plpgsql as $$
#variable_conflict use_variable
declare
    place bigint;
begin
    event := kernel.new_id(o.bucket);
    insert into audit.event (bucket, entity_id, id, entity, action, from_status, to_status, actor,
                             old_value, new_value, reason, request_id, at)
    values (o.bucket, o.id, event, 'order', action, from_status, o.status, actor, old_value,
            new_value, reason, request_id, at);
    place := outbox._append_one(o.id, event, topic, jsonb_strip_nulls(jsonb_build_object(
            'order', o.id, 'desk', o.desk_id, 'customer', o.customer_id,
            'operator', o.assigned_operator_id, 'status', o.status, 'version', o.version)),
        request_id, at);
end $$;

-- Makes a desk, or changes what is given of it; nulls leave it as it is.
create function orders.open_desk(
    called text, role text, closed boolean default null, lease_seconds int default null,
    wip_limit int default null, sla_seconds int default null)
returns table (code text, created boolean, desk_id uuid, desk text, is_closed boolean,
               lease bigint, most bigint, sla bigint)
language plpgsql as $$
#variable_conflict use_variable
declare
    fresh uuid := kernel.new_id(orders._home(called));
    d     orders.desk_in_force;
begin
    if role not in ('supervisor', 'admin') then
        code := 'forbidden';
        return next;
        return;
    end if;
    insert into orders.desk (bucket, id, name, created_at)
    values (kernel.bucket_of(fresh), fresh, called, kernel.now())
    on conflict on constraint desk_bucket_name_key do nothing;
    created := found;
    update orders.desk x
    set closed = coalesce(closed, x.closed),
        lease_seconds = coalesce(lease_seconds, x.lease_seconds),
        wip_limit = coalesce(wip_limit, x.wip_limit),
        sla_seconds = coalesce(sla_seconds, x.sla_seconds)
    where x.bucket = orders._home(called) and x.name = called;
    d := orders._desk(called);
    code := 'ok';
    desk_id := d.id; desk := d.name; is_closed := d.closed;
    lease := d.lease_seconds; most := d.wip_limit; sla := d.sla_seconds;
    return next;
end $$;

-- Names an operator for a desk, or takes the name back. The first name closes the desk to others.
create function orders.name_operator(
    desk text, operator_id uuid, operator_role text, operator_name text, role text,
    named boolean default true)
returns text language plpgsql as $$
#variable_conflict use_variable
declare
    d orders.desk_in_force := orders._desk(desk);
begin
    if role not in ('supervisor', 'admin') then
        return 'forbidden';
    elsif d.id is null then
        return 'desk_not_found';
    elsif named and coalesce(operator_role, 'user') = 'user' then
        return 'operator_not_found';
    end if;
    insert into orders.seat (bucket, desk_id, operator_id, name, named)
    values (d.bucket, d.id, operator_id, operator_name, named)
    on conflict on constraint seat_pkey do update
    set named = excluded.named, name = coalesce(excluded.name, orders.seat.name);
    if named then
        update orders.desk x set closed = true
        where x.bucket = d.bucket and x.id = d.id and not x.closed;
    end if;
    return 'ok';
end $$;
