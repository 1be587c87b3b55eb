-- Holds: credit promised to work that is done elsewhere. Captured, released or expired, by exactly
-- one winner.
--
-- A hold reserves named lots, so what was promised is still there when it is captured: reserved
-- credit does not expire meanwhile and nothing else can burn it. All four ends take the wallet's
-- lock first and then look at the hold: the first one there decides, the others read what it wrote.
-- Time is the database's: a capture that gets the lock after the end of the hold finds it expired,
-- whether or not the sweeper has been there.

select transitions.declare('hold', 'ledger.hold', $$
    OPEN, CAPTURED, RELEASED, EXPIRED
    capture: OPEN → CAPTURED (its holder)
    release: OPEN → RELEASED (its holder)
    expire:  OPEN → EXPIRED (sweeper)
$$);

-- Reserves credit of a locked wallet. Returns the hold's id, or null for lack of funds.
create function ledger._reserve(
    account uuid, asset text, amount bigint, cause text, expires_at timestamptz,
    moment timestamptz, request_id text default null)
returns uuid language plpgsql as $$
#variable_conflict use_variable
declare
    hold     uuid := kernel.new_id(kernel.bucket_of(account));
    reserved jsonb := ledger._pick(account, asset, amount);
begin
    if reserved is null then
        return null;
    end if;
    perform ledger._apply_to_lots(reserved, 0, 1);
    insert into ledger.hold (bucket, id, account_id, asset, amount, lots, cause, expires_at, at)
    values (kernel.bucket_of(account), hold, account, asset, amount, reserved, cause,
            expires_at, moment);
    perform ledger._move(account, asset, kernel.new_id(kernel.bucket_of(account)), 'hold', 0,
                         amount, 'hold', 'hold:' || hold, '{}', moment, null, null, null,
                         request_id);
    perform ledger._trace_hold(hold, account, 'hold', null, 'OPEN', account::text, amount,
                               request_id, moment);
    return hold;
end $$;

-- The audit row and the effect of a hold's move.
create function ledger._trace_hold(
    hold uuid, account uuid, verb text, from_status text, to_status text, actor text,
    amount bigint, request_id text, moment timestamptz)
returns void language plpgsql as $$
declare
    event uuid := kernel.new_id(kernel.bucket_of(hold));
begin
    perform audit._record('hold', 'ledger.' || verb, array[event], array[hold],
        array[from_status], array[to_status], array[actor], array[null::text],
        array[request_id], moment);
    perform outbox._append(array[account], array[event], array['holds.' || lower(to_status)],
        array[jsonb_build_object('hold', hold, 'amount', amount)], array[request_id], moment);
end $$;

-- Ends an open hold of a locked wallet: burns `taken` of it, gives the rest back to its lots.
create function ledger._end_hold(
    h ledger.hold, to_status text, taken bigint, actor text, moment timestamptz,
    request_id text default null)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    l      record;
    owed   bigint := taken;
    part   bigint;
    burned jsonb := '{}';
begin
    for l in select b.key::uuid as id, b.value::bigint as amount
             from jsonb_each_text(h.lots) b
             join ledger.lot x on x.bucket = h.bucket and x.id = b.key::uuid
             order by x.priority, x.expires_at nulls last, x.kind = 'bought', x.id
    loop
        exit when owed = 0;
        part := least(l.amount, owed);
        burned := burned || jsonb_build_object(l.id, -part);
        owed := owed - part;
    end loop;
    perform ledger._apply_to_lots(h.lots, 0, -1);
    perform ledger._apply_to_lots(burned, 1, 0);
    update ledger.hold x set status = to_status, captured = taken, finished_at = moment
    where x.bucket = h.bucket and x.id = h.id;
    if taken > 0 then
        perform ledger._move(h.account_id, h.asset, kernel.new_id(h.bucket), 'capture', -taken,
                             -taken, 'revenue', 'hold:' || h.id, burned, moment, null, actor,
                             null, request_id);
    end if;
    if taken < h.amount then
        perform ledger._move(h.account_id, h.asset, kernel.new_id(h.bucket), 'release', 0,
                             taken - h.amount, 'hold', 'hold:' || h.id, '{}', moment, null,
                             actor, lower(to_status), request_id);
    end if;
    perform ledger._trace_hold(h.id, h.account_id, case to_status when 'CAPTURED' then 'capture'
        when 'RELEASED' then 'release' else 'expire' end, 'OPEN', to_status, actor, taken,
        request_id, moment);
end $$;

-- Expires the open holds of locked wallets whose time has come, then what that freed too late.
create function ledger._expire_holds(accounts uuid[], moment timestamptz)
returns int language plpgsql as $$
#variable_conflict use_variable
declare
    h    ledger.hold;
    done int := 0;
begin
    for h in select x.* from unnest(accounts) a
             join ledger.hold x on x.bucket = kernel.bucket_of(a) and x.account_id = a
             where x.status = 'OPEN' and x.expires_at <= moment
             order by x.account_id, x.expires_at, x.id
    loop
        perform ledger._end_hold(h, 'EXPIRED', 0, 'sweeper', moment);
        done := done + 1;
    end loop;
    return done;
end $$;

-- Reserves `amount` for `ttl_seconds`, once per key.
create function ledger.hold(
    account uuid, amount bigint, ttl_seconds double precision, cause text, key text,
    request_id text default null, asset text default 'crystal')
returns setof ledger.hold_outcome language plpgsql as $$
#variable_conflict use_variable
declare
    moment timestamptz;
    print  bytea := idempotency._fingerprint(concat_ws(' ', asset, amount, ttl_seconds, cause));
    judged record;
    made   uuid;
begin
    if cardinality(ledger._lock(array[account], true)) = 0 then
        return query select * from ledger._hold_outcome('not_found', null);
        return;
    end if;
    moment := kernel.now();
    perform ledger._expire_due(array[account], asset, moment);
    judged := idempotency._judge(array[account], 'ledger.hold', array[key], array[print]);
    if judged.standings[1] = 'replay' then
        return query select * from ledger._hold_outcome('ok', judged.results[1], true);
    elsif judged.standings[1] <> 'fresh' then
        return query select * from ledger._hold_outcome(judged.standings[1], null);
    else
        made := ledger._reserve(account, asset, amount, cause,
                                moment + make_interval(secs => ttl_seconds), moment, request_id);
        if made is null then
            return query select 'insufficient_tokens', null::uuid, null::text, null::bigint,
                null::bigint, null::timestamptz, amount, w.balance - w.held, false
                from ledger.wallet w where w.bucket = kernel.bucket_of(account)
                and w.account_id = account and w.asset = asset;
            return;
        end if;
        perform idempotency._bind(array[account], 'ledger.hold', array[key], array[print],
                                  array[made], moment);
        return query select * from ledger._hold_outcome('ok', made);
    end if;
end $$;

create function ledger._hold_outcome(code text, hold uuid, replayed boolean default false)
returns ledger.hold_outcome language sql stable as $$
    select row(code, h.id, h.status, h.amount, h.captured, h.expires_at, null, null,
               replayed)::ledger.hold_outcome
    from (select 1) one
    left join ledger.hold h on h.bucket = kernel.bucket_of(hold) and h.id = hold
$$;

-- Burns `taken` of an open hold and gives the rest back. Outcomes: ok, not_found,
-- capture_exceeds_hold, hold_finished (captured, released or expired before; status says which).
create function ledger.capture(
    hold uuid, owners uuid[], taken bigint, key text default null,
    request_id text default null)
returns setof ledger.hold_outcome language plpgsql as $$
begin
    return query
    select * from ledger._decide_hold(hold, owners, 'CAPTURED', taken, key, request_id);
end $$;

-- Gives an open hold back, whole. Outcomes as for capture.
create function ledger.release(
    hold uuid, owners uuid[], key text default null, request_id text default null)
returns setof ledger.hold_outcome language plpgsql as $$
begin
    return query select * from ledger._decide_hold(hold, owners, 'RELEASED', 0, key, request_id);
end $$;

create function ledger._decide_hold(
    hold uuid, owners uuid[], to_status text, taken bigint, key text, request_id text)
returns setof ledger.hold_outcome language plpgsql as $$
#variable_conflict use_variable
declare
    h        ledger.hold;
    verb     text := 'ledger.' || lower(to_status);
    print    bytea := idempotency._fingerprint(concat_ws(' ', hold, taken));
    standing text := 'fresh';
    moment   timestamptz;
begin
    select x.* into h from ledger.hold x where x.bucket = kernel.bucket_of(hold) and x.id = hold
        and (owners is null or x.account_id = any (owners)) and x.cause not like 'job:%';
    if h.id is null then        -- or it is a job's own, and ends with the job
        return query select * from ledger._hold_outcome('not_found', null);
        return;
    end if;
    perform ledger._lock(array[h.account_id], true);
    moment := kernel.now();
    perform ledger._expire_due(array[h.account_id], h.asset, moment);
    select x.* into h from ledger.hold x where x.bucket = h.bucket and x.id = h.id;
    if key is not null then
        standing := (idempotency._judge(array[h.account_id], verb, array[key],
                                        array[print])).standings[1];
    end if;
    if standing = 'replay' then
        return query select * from ledger._hold_outcome('ok', h.id, true);
    elsif standing <> 'fresh' then
        return query select * from ledger._hold_outcome(standing, null);
    elsif h.status <> 'OPEN' then
        return query select * from ledger._hold_outcome('hold_finished', h.id);
    elsif taken > h.amount then
        return query select * from ledger._hold_outcome('capture_exceeds_hold', h.id);
    else
        perform ledger._end_hold(h, to_status, taken, h.account_id::text, moment, request_id);
        if key is not null then
            perform idempotency._bind(array[h.account_id], verb, array[key], array[print],
                                      array[h.id], moment);
        end if;
        return query select * from ledger._hold_outcome('ok', h.id);
    end if;
end $$;

-- One hold, if it belongs to one of the owners (null: to anybody). An open one whose time has
-- passed is shown as it stands: expired.
create function ledger.hold_of(hold uuid, owners uuid[])
returns table (id uuid, status text, amount bigint, captured bigint, cause text,
               expires_at timestamptz, at timestamptz)
language sql stable as $$
    select h.id, case when h.status = 'OPEN' and h.expires_at <= kernel.now() then 'EXPIRED'
                 else h.status end, h.amount, h.captured, h.cause, h.expires_at, h.at
    from ledger.hold h
    where h.bucket = kernel.bucket_of(hold) and h.id = hold
      and (owners is null or h.account_id = any (owners))
$$;

-- The sweeper's share: expires holds and lots that are due, of wallets nobody is working on.
create function ledger.sweep(at_most int)
returns int language plpgsql as $$
declare
    moment timestamptz := kernel.now();
    due    uuid[];
    assets text[];
    kind   text;
    done   int := 0;
begin
    select array_agg(distinct d.account_id), array_agg(distinct d.asset) into due, assets from (
        (select h.account_id, h.asset from ledger.hold h
         where h.status = 'OPEN' and h.expires_at <= moment order by h.expires_at limit at_most)
        union all
        (select l.account_id, l.asset from ledger.lot l
         where l.open and l.expires_at <= moment and l.remaining > l.held
         order by l.expires_at limit at_most)) d;
    if due is null then
        return 0;
    end if;
    due := ledger._lock(due, false);
    moment := kernel.now();
    foreach kind in array assets loop
        done := done + ledger._expire_due(due, kind, moment);
    end loop;
    return done;
end $$;
