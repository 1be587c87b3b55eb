-- The ledger's verbs: charge (arrays first), refund, grant, adjust, and what people read.

-- Charges members, each under its own idempotency key. Outcomes: ok, insufficient_tokens (nothing
-- is bound: the key is free for another try), idempotency_key_reused, not_found, busy.
create function ledger.charge(
    accounts uuid[], amounts bigint[], keys text[], causes text[], request_ids text[],
    asset text default 'crystal', wait boolean default true)
returns table (ord int, code text, entry_id uuid, needed bigint, available bigint,
               replayed boolean)
language plpgsql as $$
#variable_conflict use_variable
declare
    locked  uuid[] := ledger._lock(accounts, wait);
    moment  timestamptz := kernel.now();
    seed    kernel.seed := kernel.new_seed();
    prints  bytea[];
    ids     uuid[];
    judged  record;
    charged record;
    entries uuid[];
begin
    select array_agg(idempotency._fingerprint(concat_ws(' ', asset, u.amount, u.cause))
                     order by u.ord),
           array_agg(kernel.nth_id(seed.high, seed.low, u.ord, kernel.bucket_of(u.account))
                     order by u.ord),
           array_agg(coalesce(u.cause, 'charge ' || u.key) order by u.ord)
    into prints, ids, causes
    from unnest(accounts, amounts, causes, keys) with ordinality
         as u(account, amount, cause, key, ord);
    judged := idempotency._judge(accounts, 'ledger.charge', keys, prints);
    charged := ledger._charge(accounts, asset, amounts, ids, causes, request_ids, moment,
                              ledger._unlocked(accounts, locked, judged.standings));
    entries := judged.results;
    perform idempotency._bind(array_agg(u.account), 'ledger.charge', array_agg(u.key),
                              array_agg(u.print), array_agg(u.id), moment)
    from unnest(accounts, keys, prints, ids, charged.codes) as u(account, key, print, id, code)
    where u.code = 'ok'
    having count(*) > 0;
    return query
    select x.ord::int, case x.final when 'replay' then 'ok' else x.final end,
           case x.final when 'ok' then ids[x.at_ord] when 'replay' then entries[x.at_ord] end,
           amounts[x.ord], charged.frees[x.at_ord], x.final = 'replay' or x.at_ord <> x.ord
    from idempotency._settle_twins(charged.codes, judged.twins) x;
end $$;
select kernel.plan_by_index('ledger.charge');

-- Members whose wallet is not locked: 'busy' when somebody's open transaction holds it,
-- 'not_found' when there is none.
create function ledger._unlocked(accounts uuid[], locked uuid[], codes text[])
returns text[] language plpgsql as $$
#variable_conflict use_variable
begin
    if cardinality(locked) = cardinality(accounts) then
        return codes;       -- all, and nobody is named twice
    elsif cardinality(locked) = (select count(distinct a) from unnest(accounts) a) then
        return codes;
    end if;
    for i in 1 .. cardinality(accounts) loop
        if accounts[i] = any (locked) then
            continue;
        elsif exists (select from ledger.wallet w where w.bucket = kernel.bucket_of(accounts[i])
                      and w.account_id = accounts[i]) then
            codes[i] := 'busy';
        else
            codes[i] := 'not_found';
        end if;
    end loop;
    return codes;
end $$;

-- A new lot in a locked wallet, once per cause: null when it was granted before.
create function ledger._grant(
    account uuid, asset text, amount bigint, kind text, contra text, cause text, moment timestamptz,
    priority int default 0, expires_at timestamptz default null, actor text default null,
    reason text default null, request_id text default null, entry_kind text default 'grant')
returns bigint language plpgsql as $$
#variable_conflict use_variable
declare
    lot uuid := kernel.new_id(kernel.bucket_of(account));
begin
    if exists (select from ledger.entry e where e.bucket = kernel.bucket_of(account)
               and e.account_id = account and e.cause = cause and e.kind = entry_kind) then
        return null;
    end if;
    insert into ledger.lot (bucket, id, account_id, asset, kind, amount, remaining, priority,
                            expires_at, cause, at)
    values (kernel.bucket_of(account), lot, account, asset, kind, amount, amount, priority,
            expires_at, cause, moment);
    return ledger._move(account, asset, lot, entry_kind, amount, 0, contra, cause,
                        jsonb_build_object(lot, amount), moment, null, actor, reason, request_id);
end $$;

-- Wallets of new accounts, with a first grant for some of them: written at once as what the grant
-- leaves behind. Nobody knows these accounts yet, so there is nothing to lock or to look up.
create function ledger._open(
    accounts uuid[], asset text, amount bigint, granted boolean[], kind text, contra text,
    cause text, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    seed kernel.seed := kernel.new_seed();
begin
    insert into ledger.wallet (bucket, account_id, asset, balance, seq)
    select kernel.bucket_of(u.id), u.id, asset, case when u.granted then amount else 0 end,
           case when u.granted and amount > 0 then 1 else 0 end
    from unnest(accounts, granted) as u(id, granted);
    if amount > 0 then
        with lots as (
            insert into ledger.lot (bucket, id, account_id, asset, kind, amount, remaining, cause,
                                    at)
            select kernel.bucket_of(u.id),
                   kernel.nth_id(seed.high, seed.low, u.ord, kernel.bucket_of(u.id)), u.id, asset,
                   kind, amount, amount, cause, moment
            from unnest(accounts, granted) with ordinality as u(id, granted, ord)
            where u.granted
            returning lot.bucket, lot.id, lot.account_id)
        insert into ledger.entry (bucket, account_id, asset, seq, id, kind, amount, balance_after,
                                  held_after, contra, cause, lots, at)
        select l.bucket, l.account_id, asset, 1, l.id, 'grant', amount, amount, 0, contra, cause,
               jsonb_build_object(l.id, amount), moment
        from lots l;
    end if;
end $$;

-- Credit that was bought or given, once per key.
create function ledger.grant(
    account uuid, amount bigint, kind text, key text, asset text default 'crystal',
    priority int default 0, expires_at timestamptz default null, actor text default null,
    reason text default null, request_id text default null)
returns table (code text, balance bigint, replayed boolean) language plpgsql as $$
#variable_conflict use_variable
declare
    seq bigint;
begin
    if cardinality(ledger._lock(array[account], true)) = 0 then
        return query select 'not_found', null::bigint, false;
        return;
    end if;
    -- 'key:' keeps them apart from what the system itself grants, as 'grant:welcome'.
    seq := ledger._grant(account, asset, amount, kind, kind, 'grant:key:' || key, kernel.now(),
                         priority, expires_at, actor, reason, request_id);
    return query
    select case e.amount when amount then 'ok' else 'idempotency_key_reused' end, w.balance,
           seq is null
    from ledger.wallet w
    join ledger.entry e on e.bucket = w.bucket and e.account_id = account and e.kind = 'grant'
         and e.cause = 'grant:key:' || key
    where w.bucket = kernel.bucket_of(account) and w.account_id = account and w.asset = asset;
end $$;

-- An admin's correction, with a reason. Credit is a new lot, a debit burns lots as a charge does.
create function ledger.adjust(
    account uuid, amount bigint, reason text, key text, actor text,
    request_id text default null, asset text default 'crystal')
returns table (code text, entry_id uuid, balance bigint, held bigint, at timestamptz,
               replayed boolean, cause text)
language plpgsql as $$
#variable_conflict use_variable
declare
    print  bytea := idempotency._fingerprint(concat_ws(' ', asset, amount, reason));
    moment timestamptz;
    judged record;
    code   text := 'ok';
    cause  text := 'adjustment:' || encode(sha256(convert_to(actor || ' ' || key, 'UTF8')), 'hex');
    done   ledger.entry;
begin
    if cardinality(ledger._lock(array[account], true)) = 0 then
        return query select 'not_found', null::uuid, null::bigint, null::bigint,
                            null::timestamptz, false, null::text;
        return;
    end if;
    moment := kernel.now();
    perform ledger._expire_due(array[account], asset, moment);
    judged := idempotency._judge(array[account], 'ledger.adjust ' || actor, array[key],
                                 array[print]);
    if judged.standings[1] = 'idempotency_key_reused' then
        code := judged.standings[1];
    elsif judged.standings[1] = 'fresh' then
        if amount > 0 then
            perform ledger._grant(account, asset, amount, 'bought', 'adjustment', cause, moment,
                0, null, actor, reason, request_id, 'adjustment');
        else
            code := ledger._burn(account, asset, -amount, 'adjustment', 'adjustment', cause,
                                 moment, actor, reason, request_id);
        end if;
        if code = 'ok' then
            perform idempotency._bind(array[account], 'ledger.adjust ' || actor, array[key],
                                      array[print], array[account], moment);
            insert into audit.event (bucket, entity_id, id, entity, action, actor, new_value,
                                     reason, request_id, at)
            values (kernel.bucket_of(account), account, kernel.new_id(kernel.bucket_of(account)),
                    'wallet', 'ledger.adjust', actor, amount::text, reason, request_id, moment);
        end if;
    end if;
    select * into done from ledger.entry e where e.bucket = kernel.bucket_of(account)
        and e.account_id = account and e.cause = cause and e.kind = 'adjustment';
    return query select case code when 'insufficient_tokens' then 'balance_below_floor'
                        else code end, done.id, done.balance_after, done.held_after, done.at,
                        judged.standings[1] = 'replay', cause;
end $$;

-- Takes credit from a locked wallet in burning order, as one movement of the given kind.
create function ledger._burn(
    account uuid, asset text, amount bigint, kind text, contra text, cause text,
    moment timestamptz, actor text default null, reason text default null,
    request_id text default null)
returns text language plpgsql as $$
#variable_conflict use_variable
declare
    burned jsonb := ledger._pick(account, asset, amount);
begin
    if burned is null then
        return 'insufficient_tokens';
    end if;
    perform ledger._apply_to_lots(burned, -1, 0);
    perform ledger._move(account, asset, kernel.new_id(kernel.bucket_of(account)), kind, -amount,
                         0, contra, cause, ledger._negated(burned), moment, null, actor, reason,
                         request_id);
    return 'ok';
end $$;

-- Which lots of a locked wallet give how much, in burning order; null where there is too little.
create function ledger._pick(account uuid, asset text, amount bigint)
returns jsonb language plpgsql as $$
#variable_conflict use_variable
declare
    l      record;
    owed   bigint := amount;
    part   bigint;
    picked jsonb := '{}';
begin
    for l in select x.id, x.remaining - x.held as free from ledger.lot x
             where x.bucket = kernel.bucket_of(account) and x.account_id = account
               and x.asset = asset and x.open and x.remaining > x.held
             order by x.priority, x.expires_at nulls last, x.kind = 'bought', x.id
    loop
        exit when owed = 0;
        part := least(l.free, owed);
        picked := picked || jsonb_build_object(l.id, part);
        owed := owed - part;
    end loop;
    return case when owed = 0 then picked end;
end $$;

create function ledger._negated(lots jsonb) returns jsonb language sql immutable as $$
    select coalesce(jsonb_object_agg(b.key, -b.value::bigint), '{}') from jsonb_each_text(lots) b
$$;

-- Adds `lots` (lot id → change) to remaining and to held, by the given factors.
create function ledger._apply_to_lots(lots jsonb, to_remaining int, to_held int)
returns void language plpgsql as $$
begin
    update ledger.lot l
    set remaining = l.remaining + to_remaining * b.value::bigint,
        held = l.held + to_held * b.value::bigint,
        open = l.remaining + to_remaining * b.value::bigint > 0
    from jsonb_each_text(lots) b
    where l.bucket = kernel.bucket_of(b.key::uuid) and l.id = b.key::uuid;
end $$;

-- Gives a charge back, whole, once; the cause is the charge's.
create function ledger.refund(
    account uuid, entry_id uuid, reason text, asset text default 'crystal',
    actor text default null, request_id text default null)
returns table (code text, refunded bigint, replayed boolean) language plpgsql as $$
#variable_conflict use_variable
declare
    charge ledger.entry;
    seq    bigint;
begin
    perform ledger._lock(array[account], true);
    select * into charge from ledger.entry e where e.bucket = kernel.bucket_of(account)
        and e.account_id = account and e.asset = asset and e.kind in ('charge', 'capture')
        and e.id = entry_id;
    if charge.id is null then
        return query select 'not_found', 0::bigint, false;
        return;
    end if;
    seq := ledger._refund(account, asset, charge.seq, charge.cause,
                          kernel.new_id(charge.bucket), kernel.now(), actor, reason, request_id);
    return query select 'ok', -charge.amount, seq is null;
end $$;

-- What an account has, what is promised of it, and what is left to spend.
create function ledger.wallet_of(account uuid, asset text default 'crystal')
returns table (balance bigint, held bigint, available bigint) language sql stable as $$
    select w.balance, w.held, w.balance - w.held from ledger.wallet w
    where w.bucket = kernel.bucket_of(account) and w.account_id = account
      and w.asset = wallet_of.asset
$$;

-- Movements, newest first, those with a seq below `before`.
create function ledger.transactions(
    account uuid, before bigint, at_most int, asset text default 'crystal')
returns setof ledger.entry language sql stable as $$
    select e.* from ledger.entry e
    where e.bucket = kernel.bucket_of(account) and e.account_id = account
      and e.asset = transactions.asset and e.seq < coalesce(before, 9223372036854775807)
    order by e.seq desc
    limit at_most
$$;

-- The current price of a kind: the newest version whose time has come.
create function ledger.prices()
returns table (kind text, amount bigint, per bigint, unit text, version int)
language sql stable as $$
    select distinct on (p.kind) p.kind, p.amount, p.per, p.unit, p.version
    from ledger.price p where p.since <= kernel.now()
    order by p.kind, p.version desc
$$;

create function ledger._price_of(called text, units bigint) returns bigint
language plpgsql stable as $$
declare
    cost bigint;
begin
    select p.amount * greatest(1, (units + p.per - 1) / p.per) into cost
    from ledger.price p where p.kind = called and p.since <= kernel.now()
    order by p.version desc limit 1;
    if cost is null then
        raise exception 'no price for "%"', called
            using errcode = 'KH000', hint = 'Run holdfast migrate.';
    end if;
    return cost;
end $$;
