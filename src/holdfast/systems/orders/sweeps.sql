-- Sweeps: who is silent loses the order, who is late is announced; and what people and meters read.

-- Returns orders whose lease has passed to the desk. The sweeper takes the order's lock and looks
-- again under it, so of a late sign of life and a sweep exactly one wins.
create function orders.sweep_leases(at_most int default 500)
returns table (order_id uuid, operator_id uuid, version int) language plpgsql as $$
#variable_conflict use_column
declare
    moment timestamptz := kernel.now();
    due    orders.order[];
    o      orders.order;
begin
    select array_agg(t order by t.id) into due from (
        select x.* from orders.order x
        where x.lease_until <= moment and x.status = 'PROCESSING'
        order by x.lease_until limit at_most for update skip locked) t;
    if due is null then
        return;
    end if;
    perform outbox._lock((select array_agg(t.id) from unnest(due) t), true);
    foreach o in array due loop
        perform orders._carry_out('lease_expired', o, null, 'sweeper', 'lease_expired', null,
                                  moment);
        order_id := o.id;
        operator_id := o.assigned_operator_id;
        version := o.version + 1;
        return next;
    end loop;
end $$;
select kernel.plan_by_index('orders.sweep_leases');

-- Announces orders that are past their time, each once.
create function orders.sweep_late(at_most int default 500)
returns table (order_id uuid, due_at timestamptz) language plpgsql as $$
#variable_conflict use_column
declare
    moment timestamptz := kernel.now();
    late   orders.order[];
    o      orders.order;
begin
    select array_agg(t order by t.id) into late from (
        select x.* from orders.order x
        where x.due_at <= moment and x.breached_at is null
          and x.status in ('PENDING', 'PROCESSING')
        order by x.due_at limit at_most for update skip locked) t;
    if late is null then
        return;
    end if;
    perform outbox._lock((select array_agg(t.id) from unnest(late) t), true);
    foreach o in array late loop
        update orders.order x set breached_at = moment where x.bucket = o.bucket and x.id = o.id;
        perform orders._trace(o, 'orders.breach', 'orders.breached', o.status, 'sweeper', null,
                              null, 'due ' || o.due_at, null, moment);
        order_id := o.id;
        due_at := o.due_at;
        return next;
    end loop;
end $$;
select kernel.plan_by_index('orders.sweep_late');

-- Releases what an erased person holds, cancels what he asked for and blanks its words.
create function orders.forget(account uuid)
returns table (released bigint, cancelled bigint) language plpgsql as $$
#variable_conflict use_variable
declare
    moment timestamptz;
    o      orders.order;
    mine   uuid[];
begin
    select array_agg(x.id) into mine from orders.order x
    where (x.status = 'PROCESSING' and x.assigned_operator_id = account)
       or x.customer_id = account;
    perform orders._lock_each(mine, null, null);
    moment := kernel.now();
    released := 0;
    cancelled := 0;
    for o in select x.* from unnest(mine) m(id)
             join orders.order x on x.bucket = kernel.bucket_of(m.id) and x.id = m.id
             order by x.id
    loop
        if o.customer_id = account and o.status in ('PENDING', 'PROCESSING') then
            perform orders._carry_out('cancel', o, null, account::text, 'erased', null, moment);
            cancelled := cancelled + 1;
        elsif o.status = 'PROCESSING' and o.assigned_operator_id = account then
            perform orders._carry_out('release', o, null, account::text, 'erased', null, moment);
            released := released + 1;
        end if;
    end loop;
    update orders.order x set title = '-', details = null where x.customer_id = account;
    update orders.seat s set name = null where s.operator_id = account;
    return next;
end $$;
