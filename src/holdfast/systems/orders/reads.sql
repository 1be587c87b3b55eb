-- Reads: one function per question. Lists go page by page along an index.

-- One order, for whoever may see it: its customer, and every operator of its desk.
create function orders.get(
    order_id uuid, actor uuid, role text default 'user', family uuid[] default null)
returns table (code text, seen orders.order_seen, allowed text[], most bigint, replayed boolean)
language plpgsql stable as $$
#variable_conflict use_variable
declare
    who orders.caller := row(actor, coalesce(family, array[actor]), role, null, null);
begin
    return query select * from orders._tell(orders._visible(order_id, who), order_id, who);
end $$;
select kernel.plan_by_index('orders.get');

create function orders._visible(order_id uuid, who orders.caller)
returns text language plpgsql stable as $$
#variable_conflict use_variable
declare
    o orders.order;
    d orders.desk_in_force;
begin
    select * into o from orders.order x
    where x.bucket = kernel.bucket_of(order_id) and x.id = order_id;
    select * into d from orders.desk_in_force x
    where x.bucket = o.bucket and x.id = o.desk_id;
    return case
        when o.id is null then 'order_not_found'
        when o.customer_id = any (who.family) or orders._works_at(d, who) then 'ok'
        when who.role = 'operator' then 'forbidden'
        else 'order_not_found' end;
end $$;

-- A customer's own orders, newest first, those before a given id; of one desk where one is named.
create function orders.list_of_customer(
    actor uuid, family uuid[], role text, statuses text[], desks text[], before uuid, at_most int)
returns table (seen orders.order_seen, allowed text[]) language plpgsql stable as $$
#variable_conflict use_variable
declare
    who orders.caller := row(actor, family, role, null, null);
begin
    return query
    select s, orders._allowed(o, d, who)
    from (select x.* from orders.order x
          join orders.desk y on y.bucket = x.bucket and y.id = x.desk_id
          where x.customer_id = any (family) and x.status = any (statuses)
            and x.id < coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            and (desks is null or y.name = any (desks))
          order by x.id desc limit at_most) as o
    join orders.desk_in_force d on d.bucket = o.bucket and d.id = o.desk_id
    join orders.order_seen s on s.bucket = o.bucket and s.id = o.id
    order by o.id desc;
end $$;

-- A desk's orders by priority, then age; after a given place in that order. Outcomes: ok for
-- every row; one row without an order says forbidden or desk_not_found.
create function orders.list_of_desk(
    desk text, actor uuid, role text, family uuid[], statuses text[], after_priority int,
    after_id uuid, at_most int)
returns table (code text, seen orders.order_seen, allowed text[], most bigint)
language plpgsql stable as $$
#variable_conflict use_variable
declare
    who   orders.caller := row(actor, family, role, null, null);
    d     orders.desk_in_force := orders._desk(desk);
begin
    code := case when d.id is null then 'desk_not_found'
                 when not orders._works_at(d, who) then 'forbidden' end;
    if code is not null then
        return next;
        return;
    end if;
    return query
    select 'ok', s, orders._allowed(o, d, who), null::bigint
    from (select w.* from unnest(statuses) as t(status)
          cross join lateral (
              select y.* from orders.order y
              where y.bucket = d.bucket and y.desk_id = d.id and y.status = t.status
                and y.priority <= coalesce(after_priority, 9)
                and (y.priority < coalesce(after_priority, 10)
                     or y.id > coalesce(after_id, '00000000-0000-0000-0000-000000000000'))
              order by y.priority desc, y.id limit at_most) w
          order by w.priority desc, w.id limit at_most) as o
    join orders.order_seen s on s.bucket = o.bucket and s.id = o.id
    order by o.priority desc, o.id;
end $$;

-- The trail of one order, for operators; its customer is told `forbidden`.
create function orders.audit_of(
    order_id uuid, actor uuid, role text, family uuid[] default null)
returns table (code text, id uuid, action text, from_status text, to_status text, old_value text,
               new_value text, actor_id text, reason text, request_id text, at timestamptz)
language plpgsql stable as $$
#variable_conflict use_variable
declare
    who orders.caller := row(actor, coalesce(family, array[actor]), role, null, null);
begin
    code := orders._visible(order_id, who);
    if code = 'ok' and coalesce(role, 'user') = 'user' then
        code := 'forbidden';
    end if;
    if code <> 'ok' then
        return next;
        return;
    end if;
    return query select 'ok', e.id, e.action, e.from_status, e.to_status, e.old_value, e.new_value,
                        e.actor, e.reason, e.request_id, e.at
        from audit.trail(order_id) e order by e.id;
end $$;

-- Every desk with its settings.
create function orders.desks()
returns table (desk_id uuid, desk text, is_closed boolean, lease bigint, most bigint, sla bigint)
language plpgsql stable as $$
begin
    return query
    select d.id, d.name, d.closed, d.lease_seconds::bigint, d.wip_limit::bigint,
           d.sla_seconds::bigint
    from orders.desk_in_force d order by d.name;
end $$;

-- What changed since a horizon, on every desk: each order as it is now, and the next horizon. One
-- question for all who watch. The horizon is the oldest transaction still open when the question
-- was put: whatever was not visible then belongs to it or to a later one, so nothing is missed,
-- and what is told twice is the same. Without a horizon: where to begin.
create function orders.changes(since bigint default null)
returns table (horizon bigint, seen orders.order_seen) language plpgsql stable as $$
begin
    return query
    select h.horizon, s
    from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as horizon) h
    left join orders.order o on o.changed_in >= since
    left join orders.order_seen s on s.bucket = o.bucket and s.id = o.id
    order by s.id;
end $$;
select kernel.plan_by_index('orders.changes');

-- How many orders stand where, the oldest that waits and how many are late, for metrics.
create function orders.depth()
returns table (desk text, status text, orders bigint, late bigint, oldest timestamptz)
language plpgsql stable as $$
begin
    return query
    select d.name, t.status, count(o.id), count(o.breached_at), min(o.created_at)
    from orders.desk d
    cross join unnest(array['PENDING', 'PROCESSING']) as t(status)
    left join orders.order o on o.bucket = d.bucket and o.desk_id = d.id and o.status = t.status
    group by d.name, t.status
    order by d.name, t.status;
end $$;
