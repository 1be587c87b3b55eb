-- Orders, verify: one order, one operator, always; and the trail tells the whole story.

create function orders._verify_one_operator(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.id::text) filter (where x.bad)
    from (
        select o.id,
               t.takes - t.returns <> (o.assigned_operator_id is not null)::int
               or (o.status = 'PROCESSING'
                   and t.holder is distinct from o.assigned_operator_id::text) as bad
        from orders.order o
        cross join lateral (
            select count(*) filter (where e.action = 'ASSIGNED_TO_OPERATOR') as takes,
                   count(*) filter (where e.action in ('orders.release', 'orders.lease_expired'))
                       as returns,
                   (array_agg(e.new_value order by e.at desc, e.id desc) filter (
                       where e.action in ('ASSIGNED_TO_OPERATOR', 'orders.reassign')))[1] as holder
            from audit.event e
            where e.bucket = o.bucket and e.entity_id = o.id) t
        where o.bucket between first and last) x
$$;
comment on function orders._verify_one_operator is
    'an order was taken once more than it was given back while somebody has it, and by him last';

create function orders._verify_trails(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.id::text) filter (where x.bad)
    from (
        select o.id, o.version <> 1 + (
            select count(*) from audit.event e
            where e.bucket = o.bucket and e.entity_id = o.id
              and e.action not in ('orders.place', 'orders.breach')) as bad
        from orders.order o
        where o.bucket between first and last) x
$$;
comment on function orders._verify_trails is
    'every version of an order has the move that made it in the audit';

create function orders._verify_breaches(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.id::text) filter (where x.bad)
    from (
        select o.id, (o.breached_at is not null)::int <> (
            select count(*) from audit.event e
            where e.bucket = o.bucket and e.entity_id = o.id and e.action = 'orders.breach') as bad
        from orders.order o
        where o.bucket between first and last) x
$$;
comment on function orders._verify_breaches is 'lateness was announced once where it was at all';
