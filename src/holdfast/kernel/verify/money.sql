-- Verify, first part: money.

-- A wallet is the sum of its entries, which have no gaps.
create function verify._check_wallets_add_up(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.who) filter (where x.bad)
    from (
        select coalesce(w.account_id, e.account_id)::text as who,
               row(w.balance, w.held, w.seq, w.seq) is distinct from
               row(coalesce(e.balance, 0), coalesce(e.held, 0), coalesce(e.n, 0),
                   coalesce(e.top, 0))
               or w.balance - w.held < w.floor as bad
        from (select * from ledger.wallet w where w.bucket between first and last) w
        full join (
            select n.bucket, n.account_id, n.asset, sum(n.amount)::bigint as balance,
                   sum(n.held_change)::bigint as held, count(*) as n, max(n.seq) as top
            from ledger.entry n where n.bucket between first and last
            group by n.bucket, n.account_id, n.asset) e
        on e.bucket = w.bucket and e.account_id = w.account_id and e.asset = w.asset) x
$$;
comment on function verify._check_wallets_add_up is
    'every wallet is the sum of its entries, and nothing is below its floor';

-- Each entry continues the one before it.
create function verify._check_entries_follow(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad),
           min(x.account_id || ' entry ' || x.seq) filter (where x.bad)
    from (
        select n.account_id, n.seq,
               row(n.seq, n.balance_after, n.held_after) is distinct from
               row(1 + coalesce(lag(n.seq) over w, 0),
                   n.amount + coalesce(lag(n.balance_after) over w, 0),
                   n.held_change + coalesce(lag(n.held_after) over w, 0)) as bad
        from ledger.entry n where n.bucket between first and last
        window w as (partition by n.bucket, n.account_id, n.asset order by n.seq)) x
$$;
comment on function verify._check_entries_follow is
    'each entry is numbered after the one before and carries its balance on';

-- Every credit has a name: lots and holds add up to their wallet.
create function verify._check_lots_and_holds_add_up(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.who) filter (where x.bad)
    from (
        select w.account_id::text as who,
               row(w.balance, w.held, w.held) is distinct from
               row(coalesce(l.remaining, 0), coalesce(l.held, 0), coalesce(h.amount, 0)) as bad
        from ledger.wallet w
        left join (
            select l.bucket, l.account_id, l.asset, sum(l.remaining)::bigint as remaining,
                   sum(l.held)::bigint as held
            from ledger.lot l where l.bucket between first and last and l.open
            group by l.bucket, l.account_id, l.asset) l
        on l.bucket = w.bucket and l.account_id = w.account_id and l.asset = w.asset
        left join (
            select h.bucket, h.account_id, h.asset, sum(h.amount)::bigint as amount
            from ledger.hold h where h.bucket between first and last and h.status = 'OPEN'
            group by h.bucket, h.account_id, h.asset) h
        on h.bucket = w.bucket and h.account_id = w.account_id and h.asset = w.asset
        where w.bucket between first and last) x
$$;
comment on function verify._check_lots_and_holds_add_up is
    'the lots of a wallet are its balance, its open holds are what it has held';

-- Money and work commit together: each charge of a job has its job, each paid job its charge.
create function verify._check_charges_have_their_work(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.cause) filter (where x.bad)
    from (
        select coalesce(n.cause, 'job:' || j.id) as cause,
               n.seq is null or j.id is null or n.seq is distinct from j.charge_seq
               or n.amount <> -j.price as bad
        from (select * from ledger.entry n where n.bucket between first and last
              and n.kind = 'charge' and n.cause like 'job:%') n
        full join (select * from queue.job j where j.bucket between first and last
                   and j.price > 0 and j.hold_id is null) j
        on n.bucket = j.bucket and n.account_id = j.account_id and n.cause = 'job:' || j.id) x
$$;
comment on function verify._check_charges_have_their_work is
    'each charge has its job and each paid job its one charge: no credit went without work';

-- Paid and made, or refunded once: never both, never neither.
create function verify._check_failures_are_refunded_once(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.job) filter (where x.bad)
    from (
        select j.id::text as job,
               coalesce(r.n, 0) <> case when j.status in ('failed', 'cancelled') then 1 else 0 end
               or coalesce(r.amount, 0) <> case when j.status in ('failed', 'cancelled')
                                           then j.price else 0 end
               or r.seq is distinct from j.refund_seq as bad
        from queue.job j
        left join (
            select n.bucket, n.account_id, n.cause, count(*) as n, sum(n.amount)::bigint as amount,
                   max(n.seq) as seq
            from ledger.entry n where n.bucket between first and last and n.kind = 'refund'
            group by n.bucket, n.account_id, n.cause) r
        on r.bucket = j.bucket and r.account_id = j.account_id and r.cause = 'job:' || j.id
        where j.bucket between first and last and j.charge_seq is not null) x
$$;
comment on function verify._check_failures_are_refunded_once is
    'a failed or cancelled job has exactly one refund, of its price; any other has none';

-- A refund reverses one charge, whole, and no charge twice.
create function verify._check_refunds_reverse_a_charge(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad),
           min(x.account_id || ' entry ' || x.seq) filter (where x.bad)
    from (
        select r.account_id, r.seq,
               c.seq is null or c.kind not in ('charge', 'capture')
               or c.amount <> -r.amount or c.cause <> r.cause
               or count(*) over (partition by r.bucket, r.account_id, r.asset, r.reverses) > 1
               as bad
        from ledger.entry r
        left join ledger.entry c on c.bucket = r.bucket and c.account_id = r.account_id
             and c.asset = r.asset and c.seq = r.reverses
        where r.bucket between first and last and r.kind = 'refund') x
$$;
comment on function verify._check_refunds_reverse_a_charge is
    'every refund gives one charge or capture back, whole, and none comes back twice';
