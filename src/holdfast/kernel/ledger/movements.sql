-- The ledger: nobody is charged twice, nothing goes below the floor, no credit is lost.
--
-- The hard part is many members at once. A verb locks the wallets it needs in id order (and the
-- outbox streams of the same people, so that nothing later in the verb can wait), takes the time,
-- expires what is due, then judges the members of one wallet in their order, one by one: a refused
-- member must not spoil a smaller one after it. The judging is a loop over arrays in memory; the
-- writing is one set-based statement a table. A batch of 500 charges therefore costs five
-- statements, and a batch of one the same five.
--
-- Lots: credit burns by priority, then soonest end, then promotional before bought. A charge
-- remembers which lots it burned (entry.lots), a refund gives back to the same ones.

-- Locks all wallets of these accounts and their streams, in id order; returns who was locked.
-- With wait = false, members held by somebody's open transaction are left out.
create function ledger._lock(accounts uuid[], wait boolean)
returns uuid[] language plpgsql as $$
begin
    return (ledger._lock_idle(accounts, wait)).locked;
end $$;

-- The same, and whose streams have nothing to send.
create function ledger._lock_idle(
    accounts uuid[], wait boolean, out locked uuid[], out idle uuid[])
language plpgsql as $$
#variable_conflict use_variable
begin
    if wait then
        select array_agg(distinct t.account_id),
               array_agg(distinct t.account_id) filter (where t.idle)
        into locked, idle
        from (
            select w.account_id, s.ready_at is null and not s.blocked as idle
            from (select distinct a from unnest(accounts) a) x
            join ledger.wallet w on w.bucket = kernel.bucket_of(x.a) and w.account_id = x.a
            join outbox.stream s on s.bucket = w.bucket and s.stream = w.account_id
            order by w.account_id, w.asset
            for update of w, s) t;
    else
        select array_agg(distinct t.account_id),
               array_agg(distinct t.account_id) filter (where t.idle)
        into locked, idle
        from (
            select w.account_id, s.ready_at is null and not s.blocked as idle
            from (select distinct a from unnest(accounts) a) x
            join ledger.wallet w on w.bucket = kernel.bucket_of(x.a) and w.account_id = x.a
            join outbox.stream s on s.bucket = w.bucket and s.stream = w.account_id
            order by w.account_id, w.asset
            for update of w, s skip locked) t;
    end if;
    locked := coalesce(locked, '{}');
    idle := coalesce(idle, '{}');
end $$;

-- Charges the members whose code is 'fresh', those of one wallet in the order in which they asked.
-- The wallets are locked. Answers by position: code, the entry's seq, and what was available before
-- the judgement.
create function ledger._charge(
    accounts uuid[], asset text, amounts bigint[], ids uuid[], causes text[],
    request_ids text[], at timestamptz,
    inout codes text[], out seqs bigint[], out frees bigint[])
language plpgsql as $$
#variable_conflict use_variable
declare
    plain   record;
    p       record;
    m       record;
    n       int := 0;           -- wallets touched
    w       int := 1;           -- the wallet looked at, in p
    l       int := 1;           -- the lot, in p
    balance bigint; seq bigint; owed bigint; part bigint;
    burned  jsonb;
    free_in bigint[];
    touched uuid[]; new_balances bigint[]; new_seqs bigint[];
    t_lots  uuid[]; t_taken bigint[];
    e_ord   int[]; e_balance bigint[]; e_held bigint[]; e_lots jsonb[];
begin
    if 'fresh' = all (codes) and 0 < all (amounts) then
        plain := ledger._charge_plain(accounts, asset, amounts, ids, causes, request_ids, at);
        if plain.codes is not null then
            codes := plain.codes; seqs := plain.seqs; frees := plain.frees;
            return;
        end if;
    end if;
    p := ledger._purses(accounts, asset, at);
    free_in := p.frees;
    for m in
        select u.ord::int, u.account, u.amount
        from unnest(accounts, amounts, codes) with ordinality as u(account, amount, code, ord)
        where u.code = 'fresh'
        order by u.account, u.ord
    loop
        while p.wallets[w] < m.account loop w := w + 1; balance := null; end loop;
        if p.wallets[w] is distinct from m.account then
            codes[m.ord] := 'not_found';
            continue;
        end if;
        if balance is null then
            balance := p.balances[w]; seq := p.seqs[w];
            while p.owners[l] < m.account loop l := l + 1; end loop;
        end if;
        frees[m.ord] := balance - p.helds[w];
        codes[m.ord] := case when balance - p.helds[w] < m.amount then 'insufficient_tokens'
                        else 'ok' end;
        continue when codes[m.ord] <> 'ok' or m.amount = 0;
        owed := m.amount; burned := '{}';
        loop
            part := least(free_in[l], owed);
            if part > 0 then
                burned := burned || jsonb_build_object(p.lots[l], -part);
                t_lots := t_lots || p.lots[l]; t_taken := t_taken || part;
                owed := owed - part; free_in[l] := free_in[l] - part;
            end if;
            exit when owed = 0;
            l := l + 1;
        end loop;
        balance := balance - m.amount; seq := seq + 1;
        if touched[n] is distinct from m.account then n := n + 1; touched[n] := m.account; end if;
        new_balances[n] := balance; new_seqs[n] := seq;
        seqs[m.ord] := seq;
        e_ord := e_ord || m.ord; e_balance := e_balance || balance;
        e_held := e_held || p.helds[w]; e_lots := e_lots || burned;
    end loop;
    if n > 0 then
        perform ledger._write_charges(accounts, asset, amounts, ids, causes, request_ids, at,
                                      e_ord, seqs, e_balance, e_held, e_lots);
        perform ledger._write_wallets(asset, touched, new_balances, new_seqs, t_lots, t_taken);
    end if;
end $$;

-- The plain case, without the loop: every account is named once, has one open lot with nothing due,
-- and holds nothing. Where it is not so, nothing is done and `codes` is null.
create function ledger._charge_plain(
    accounts uuid[], asset text, amounts bigint[], ids uuid[], causes text[],
    request_ids text[], at timestamptz,
    out codes text[], out seqs bigint[], out frees bigint[])
language plpgsql as $$
#variable_conflict use_variable
begin
    -- Wallets and their lots are looked up once; then they are where they were, because the wallet
    -- is locked and nobody changes a lot without its wallet. The offsets keep each look a probe.
    with seen as materialized (
        select u.*, kernel.bucket_of(u.account) as bucket, w.balance, w.seq, w.place,
               l.id as lot, l.place as lot_place, l.due,
               w.balance >= u.amount as passes
        from unnest(accounts, amounts, ids, causes, request_ids) with ordinality
             as u(account, amount, id, cause, request_id, ord)
        cross join lateral (
            select x.balance, x.seq + 1 as seq, x.ctid as place from ledger.wallet x
            where x.bucket = kernel.bucket_of(u.account) and x.account_id = u.account
              and x.asset = asset and x.held = 0
            offset 0) w
        cross join lateral (
            select x.id, x.ctid as place, x.expires_at <= at as due from ledger.lot x
            where x.bucket = kernel.bucket_of(u.account) and x.account_id = u.account
              and x.asset = asset and x.open
            offset 0) l),
    judged as materialized (
        -- In order said aloud: what sorts (a count of distinct ones, say) would change it.
        select array_agg(case when s.passes then 'ok' else 'insufficient_tokens' end
                         order by s.ord) as codes,
               array_agg(s.seq order by s.ord) as seqs,
               array_agg(s.balance order by s.ord) as frees
        from seen s
        having count(*) = cardinality(accounts) and bool_or(s.due) is not true
           and count(distinct s.ord) = cardinality(accounts)    -- one lot each, not two and none
           and cardinality(accounts) = (select count(distinct a) from unnest(accounts) a)),
    paid as (
        update ledger.wallet w set balance = m.balance - m.amount, seq = m.seq
        from (select s.bucket, s.place, s.balance, s.amount, s.seq from judged, seen s
              where s.passes offset 0) m
        where w.bucket = m.bucket and w.ctid = m.place),
    burned as (
        update ledger.lot l
        set remaining = l.remaining - m.amount, open = l.remaining > m.amount
        from (select s.bucket, s.lot_place, s.amount from judged, seen s
              where s.passes offset 0) m
        where l.bucket = m.bucket and l.ctid = m.lot_place),
    written as (
        insert into ledger.entry (bucket, account_id, asset, seq, id, kind, amount, balance_after,
                                  held_after, contra, cause, lots, request_id, at)
        select s.bucket, s.account, asset, s.seq, s.id, 'charge', -s.amount,
               s.balance - s.amount, 0, 'revenue', s.cause,
               jsonb_build_object(s.lot, -s.amount), s.request_id, at
        from judged, seen s where s.passes)
    select j.codes, j.seqs, j.frees into codes, seqs, frees from judged j;
end $$;

-- What locked wallets hold now, by account: wallets with their figures, and their open lots, each
-- owner's in burning order. What is due expires first. Mostly nothing is; without anything held
-- there is no hold that could be. The offsets keep each look a probe, whatever the planner thinks.
create function ledger._purses(
    accounts uuid[], asset text, at timestamptz,
    out wallets uuid[], out balances bigint[], out helds bigint[], out seqs bigint[],
    out owners uuid[], out lots uuid[], out frees bigint[])
language plpgsql as $$
#variable_conflict use_variable
declare
    distinct_ones uuid[] := array(select distinct u from unnest(accounts) u order by u);
    due           boolean;
begin
    for look in 1..2 loop
        select array_agg(w.account_id), array_agg(w.balance), array_agg(w.held), array_agg(w.seq)
        into wallets, balances, helds, seqs
        from unnest(distinct_ones) u
        cross join lateral (
            select x.account_id, x.balance, x.held, x.seq from ledger.wallet x
            where x.bucket = kernel.bucket_of(u) and x.account_id = u and x.asset = asset
            offset 0) w;
        select array_agg(l.account_id), array_agg(l.id), array_agg(l.free), bool_or(l.due)
        into owners, lots, frees, due
        from (select y.account_id, y.id, y.remaining - y.held as free,
                     y.expires_at <= at and y.remaining > y.held as due
              from unnest(distinct_ones) u
              cross join lateral (
                  select * from ledger.lot x
                  where x.bucket = kernel.bucket_of(u) and x.account_id = u and x.asset = asset
                    and x.open
                  offset 0) y
              order by y.account_id, y.priority, y.expires_at nulls last, y.kind = 'bought',
                       y.id) l;
        exit when due is not true and 0 = all (helds);
        exit when look = 2 or ledger._expire_due(distinct_ones, asset, at) = 0;
    end loop;
end $$;

create function ledger._write_charges(
    accounts uuid[], asset text, amounts bigint[], ids uuid[], causes text[], request_ids text[],
    at timestamptz, ords int[], seqs bigint[], balances bigint[], helds bigint[], lots jsonb[])
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    insert into ledger.entry (bucket, account_id, asset, seq, id, kind, amount, balance_after,
                              held_after, contra, cause, lots, request_id, at)
    select kernel.bucket_of(accounts[e.ord]), accounts[e.ord], asset, seqs[e.ord], ids[e.ord],
           'charge', -amounts[e.ord], e.balance, e.held, 'revenue', causes[e.ord], e.lots,
           request_ids[e.ord], at
    from unnest(ords, balances, helds, lots) as e(ord, balance, held, lots);
end $$;

create function ledger._write_wallets(
    asset text, accounts uuid[], balances bigint[], seqs bigint[], lots uuid[], taken bigint[])
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    update ledger.wallet w set balance = x.balance, seq = x.seq
    from (select u.*, asset as asset       -- fenced: a constant alone may be looked up
          from unnest(accounts, balances, seqs) as u(account, balance, seq) offset 0) x
    where w.bucket = kernel.bucket_of(x.account) and w.account_id = x.account
      and w.asset = x.asset;
    update ledger.lot l set remaining = l.remaining - x.taken, open = l.remaining > x.taken
    from (select u.lot, sum(u.taken) as taken
          from unnest(lots, taken) as u(lot, taken) group by u.lot) x
    where l.bucket = kernel.bucket_of(x.lot) and l.id = x.lot;
end $$;

-- One movement of one locked wallet that is not a charge: grant, refund, expiry, adjustment,
-- hold, capture, release, transfer. `lots` says what each lot gains or loses. Returns the seq.
-- What lands in the wallet of an alias is owed to the account it was linked to: an effect in the
-- same transaction sees to that (ledger.forward).
create function ledger._move(
    account uuid, asset text, id uuid, kind text, amount bigint, held_change bigint, contra text,
    cause text, lots jsonb, at timestamptz, reverses bigint default null,
    actor text default null, reason text default null, request_id text default null)
returns bigint language plpgsql as $$
#variable_conflict use_variable
declare
    w ledger.wallet;
begin
    update ledger.wallet x
    set balance = x.balance + amount, held = x.held + held_change, seq = x.seq + 1
    where x.bucket = kernel.bucket_of(account) and x.account_id = account and x.asset = asset
    returning * into strict w;
    insert into ledger.entry (bucket, account_id, asset, seq, id, kind, amount, held_change,
                              balance_after, held_after, contra, cause, reverses, lots, actor,
                              reason, request_id, at)
    values (w.bucket, account, asset, w.seq, id, kind, amount, held_change, w.balance, w.held,
            contra, cause, reverses, lots, actor, reason, request_id, at);
    if w.forward_to is not null and amount > held_change then
        perform outbox._append(array[account], array[kernel.new_id(w.bucket)],
            array['ledger.forward'], array[jsonb_build_object('account', account)],
            array[request_id], at);
    end if;
    return w.seq;
end $$;

-- Expires what is due in these locked wallets: holds first, then lots; what an open hold reserves
-- does not expire. Each expiry is an entry of its own and ends one life of its lot.
create function ledger._expire_due(accounts uuid[], asset text, at timestamptz)
returns int language plpgsql as $$
#variable_conflict use_variable
declare
    l    ledger.lot;
    done int;
begin
    done := ledger._expire_holds(accounts, at);
    for l in
        select x.* from unnest(accounts) a
        join ledger.lot x on x.bucket = kernel.bucket_of(a) and x.account_id = a
        where x.open and x.expires_at <= at and x.remaining > x.held and x.asset = asset
        order by x.account_id, x.expires_at, x.id
    loop
        perform ledger._move(l.account_id, asset, kernel.new_id(l.bucket), 'expiry',
                             l.held - l.remaining, 0, 'expired',
                             format('expiry:%s:%s', l.id, l.life),
                             jsonb_build_object(l.id, l.held - l.remaining), at);
        update ledger.lot x set remaining = l.held, open = l.held > 0, life = l.life + 1
        where x.bucket = l.bucket and x.id = l.id;
        done := done + 1;
    end loop;
    return done;
end $$;

-- Gives a charge (or a capture) back, whole, to the lots it burned; a lot that ended meanwhile
-- lives again for the grace time. The wallet is locked. Null when it was given back before.
create function ledger._refund(
    account uuid, asset text, charge_seq bigint, cause text, id uuid, at timestamptz,
    actor text default null, reason text default null, request_id text default null)
returns bigint language plpgsql as $$
#variable_conflict use_variable
declare
    charge ledger.entry;
    grace  interval := make_interval(hours => kernel.setting_number('refund_grace_hours')::int);
begin
    -- What is left of the same lots must end before they are given a longer life.
    perform ledger._expire_due(array[account], asset, at);
    select e.* into strict charge from ledger.entry e
    where e.bucket = kernel.bucket_of(account) and e.account_id = account and e.asset = asset
      and e.seq = charge_seq and e.kind in ('charge', 'capture');
    if exists (select from ledger.entry e where e.bucket = charge.bucket
               and e.account_id = account and e.kind = 'refund' and e.cause = cause) then
        return null;
    end if;
    update ledger.lot l
    set remaining = l.remaining - b.value::bigint, open = true,
        expires_at = case when l.expires_at <= at then at + grace else l.expires_at end
    from jsonb_each_text(charge.lots) b
    where l.bucket = charge.bucket and l.id = b.key::uuid;
    return ledger._move(account, asset, id, 'refund', -charge.amount, 0, charge.contra, cause,
                        (select jsonb_object_agg(b.key, -b.value::bigint)
                         from jsonb_each_text(charge.lots) b),
                        at, charge.seq, actor, reason, request_id);
end $$;
