-- Linking: a device's account and a person's become one.
--
-- Where the person has no account yet, the device's account becomes his: same id, nothing moves.
-- Where he has one, the device's becomes an alias of it, in one transaction: the credit that is
-- free goes over, holds stay and settle where they are, and what lands in the alias's wallet later
-- is brought by an effect. Rows need not move: their ids know their bucket, and reads ask for the
-- family.
--
-- The hard part is that links form a graph. Linking is rare, so one happens at a time (an advisory
-- lock, before any row): nobody reads the graph while it changes, A→B and B→A at once are two in
-- turn, and the second finds them one person. Aliases always point to the end of the chain.

-- Links a device to whoever (kind, subject) is. Outcomes: ok, not_found (no such device),
-- device_secret_invalid, device_linked (to somebody else). `dry` only says what would move.
create function accounts.link(
    kind text, subject text, device text, secret bytea, dry boolean default false,
    request_id text default null)
returns table (code text, account_id uuid, moved jsonb, bonus_kept boolean) language plpgsql as $$
#variable_conflict use_variable
declare
    d        accounts.identity;
    own      accounts.account;        -- the device's, as it was made
    loser    uuid;                    -- what that is an alias of now, or itself
    survivor uuid;
begin
    perform accounts._one_link_at_a_time();
    select * into d from accounts.identity i
    where i.bucket = accounts._bucket('device', device) and i.kind = 'device'
      and i.subject = device;
    if d.account_id is null then
        return query select 'not_found', null::uuid, null::jsonb, null::boolean;
        return;
    elsif d.secret_hash is not null and not accounts._same(secret, d.secret_hash) then
        return query select 'device_secret_invalid', null::uuid, null::jsonb, null::boolean;
        return;
    end if;
    select * into own from accounts.account a
    where a.bucket = kernel.bucket_of(d.account_id) and a.id = d.account_id;
    loser := coalesce(own.alias_of, own.id);
    survivor := accounts._account_of(kind, subject);
    if d.linked_at is not null then
        return query select
            case when survivor = loser then 'ok' else 'device_linked' end, survivor,
            accounts._nothing_moved(), own.bonus_kept;
    elsif survivor is null and not dry and not accounts._adopt(kind, subject, loser,
                                                               request_id) then
        return query select * from accounts.link(kind, subject, device, secret, dry, request_id);
    elsif survivor is null or survivor = loser then
        update accounts.identity i set linked_at = kernel.now()
        where not dry and i.bucket = d.bucket and i.kind = 'device' and i.subject = device;
        return query select 'ok', loser, accounts._nothing_moved(),
            case when dry then accounts._had_bonus(loser)
                      and not accounts._was_here(kind, subject) else a.bonus_kept end
        from accounts.account a where a.bucket = kernel.bucket_of(loser) and a.id = loser;
    else
        return query select 'ok', survivor, m.moved, m.kept
        from accounts._merge(loser, survivor, dry, request_id) m;
        update accounts.identity i set linked_at = kernel.now()
        where not dry and i.bucket = d.bucket and i.kind = 'device' and i.subject = device;
    end if;
end $$;

create function accounts._one_link_at_a_time() returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('accounts.link', 0));
end $$;

-- Whose account an identity leads to; null for an unknown one.
create function accounts._account_of(kind text, subject text) returns uuid
language sql stable as $$
    select coalesce(a.alias_of, a.id) from accounts.identity i
    join accounts.account a on a.bucket = kernel.bucket_of(i.account_id) and a.id = i.account_id
    where i.bucket = accounts._bucket(_account_of.kind, _account_of.subject)
      and i.kind = _account_of.kind and i.subject = _account_of.subject
$$;

create function accounts._nothing_moved() returns jsonb language sql immutable as $$
    select '{"tokens": 0, "holds": 0, "jobs": 0, "orders": 0, "projects": 0,
             "enrolments": 0}'::jsonb
$$;

create function accounts._had_bonus(account uuid) returns boolean language sql stable as $$
    select exists (select from ledger.entry e where e.bucket = kernel.bucket_of(account)
                   and e.account_id = account and e.cause = 'grant:welcome' and e.kind = 'grant')
        or exists (select from accounts.account a where a.bucket = kernel.bucket_of(account)
                   and a.id = account and not a.welcome_due)
$$;

-- A device's account becomes the account of an identity that has none. False when that identity
-- got one meanwhile. Who was here before, and was erased, had his bonus then.
create function accounts._adopt(
    kind text, subject text, account uuid, request_id text)
returns boolean language plpgsql as $$
#variable_conflict use_variable
declare
    twice  boolean := accounts._was_here(kind, subject);
    moment timestamptz;
begin
    insert into accounts.identity (bucket, kind, subject, account_id, created_at)
    values (accounts._bucket(kind, subject), kind, subject, account, kernel.now())
    on conflict on constraint identity_pkey do nothing;
    if not found then
        return false;
    end if;
    perform 1 from accounts.account a
    where a.bucket = kernel.bucket_of(account) and a.id = account for update;
    perform ledger._lock(array[account], true);
    moment := kernel.now();
    update accounts.account a
    set bonus_kept = accounts._had_bonus(account) and not twice,
        welcome_due = a.welcome_due and not twice, version = a.version + 1
    where a.bucket = kernel.bucket_of(account) and a.id = account;
    if twice then
        perform accounts._claw_back(account, moment, request_id);
    end if;
    perform accounts._trace(account, 'link', 'ACTIVE', 'ACTIVE', account::text, null,
                            account, 'accounts.linked', request_id, moment);
    return true;
end $$;

-- A second welcome bonus goes back, as far as it is unspent and not promised.
create function accounts._claw_back(account uuid, moment timestamptz, request_id text)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    lots  jsonb;
    total bigint;
begin
    select jsonb_object_agg(l.id, l.held - l.remaining), sum(l.remaining - l.held)
    into lots, total
    from ledger.lot l
    where l.bucket = kernel.bucket_of(account) and l.account_id = account and l.open
      and l.kind = 'welcome' and l.remaining > l.held;
    if total > 0 then
        perform ledger._apply_to_lots(lots, 1, 0);
        perform ledger._move(account, 'crystal', kernel.new_id(kernel.bucket_of(account)),
            'adjustment', -total, 0, 'bonus', 'clawback:welcome', lots, moment, null,
            account::text, 'one welcome bonus a person', request_id);
    end if;
end $$;

-- Makes `loser` an alias of `survivor`; both are ACTIVE and nobody else links. Locks accounts in id
-- order, then wallets in id order.
create function accounts._merge(
    loser uuid, survivor uuid, dry boolean, request_id text, out moved jsonb, out kept boolean)
language plpgsql as $$
#variable_conflict use_variable
declare
    family uuid[] := loser || array(select a.id from accounts.account a where a.alias_of = loser);
    moment timestamptz;
    tokens bigint := 0;
    asset  text;
    second boolean;
begin
    if not dry then
        perform 1 from unnest(family || survivor) f
        join accounts.account a on a.bucket = kernel.bucket_of(f) and a.id = f
        order by a.id for update of a;
        insert into ledger.wallet (bucket, account_id, asset)
        select kernel.bucket_of(survivor), survivor, w.asset from ledger.wallet w
        where w.bucket = kernel.bucket_of(loser) and w.account_id = loser on conflict do nothing;
        perform ledger._lock(family || survivor, true);
    end if;
    moment := kernel.now();
    second := accounts._had_bonus(loser) and accounts._had_bonus(survivor);
    kept := accounts._had_bonus(loser) and not second;
    if dry then
        tokens := ledger._would_be_free(loser, case when second then 'welcome' end, moment);
    else
        for asset in select w.asset from ledger.wallet w
                     where w.bucket = kernel.bucket_of(loser) and w.account_id = loser loop
            perform ledger._expire_due(array[loser, survivor], asset, moment);
            if second and asset = 'crystal' then
                perform accounts._claw_back(loser, moment, request_id);
            end if;
            tokens := tokens + ledger._transfer(loser, survivor, asset, 'link:' || loser, moment,
                                                survivor::text, request_id);
        end loop;
        perform accounts._become_alias(loser, family, survivor, kept, request_id, moment);
    end if;
    moved := accounts._nothing_moved() || accounts._belongings(family)
             || jsonb_build_object('tokens', tokens);
end $$;

create function accounts._become_alias(
    loser uuid, family uuid[], survivor uuid, kept boolean, request_id text, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    update ledger.wallet w set forward_to = survivor from unnest(family) f
    where w.bucket = kernel.bucket_of(f) and w.account_id = f;
    update accounts.account a
    set alias_of = survivor, status = 'LINKED', linked_at = coalesce(a.linked_at, moment),
        bonus_kept = case when a.id = loser then kept else a.bonus_kept end,
        version = a.version + 1
    from unnest(family) f where a.bucket = kernel.bucket_of(f) and a.id = f;
    update accounts.account a set welcome_due = false, version = a.version + 1
    where a.bucket = kernel.bucket_of(survivor) and a.id = survivor and kept;
    perform accounts._trace(loser, 'link', 'ACTIVE', 'LINKED', survivor::text, survivor::text,
                            survivor, 'accounts.linked', request_id, moment);
end $$;

-- The audit row of a move of an account, and the effect in the stream of whom it concerns.
create function accounts._trace(
    account uuid, verb text, from_status text, to_status text, actor text, new_value text,
    stream uuid, topic text, request_id text, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    event uuid := kernel.new_id(kernel.bucket_of(account));
begin
    insert into audit.event (bucket, entity_id, id, entity, action, from_status, to_status, actor,
                             new_value, request_id, at)
    values (kernel.bucket_of(account), account, event, 'account', 'accounts.' || verb,
            from_status, to_status, actor, new_value, request_id, moment);
    perform outbox._append(array[stream], array[kernel.new_id(kernel.bucket_of(stream))],
        array[topic], array[jsonb_build_object('account', account)], array[request_id], moment);
end $$;

-- How much these people have of everything. What the other systems keep they say themselves: one
-- that keeps something of a person has a function `_belongings(people uuid[])` → (what, n), and
-- forgets it in `_forget_person(people uuid[], moment timestamptz)`. They are found by name, so
-- that no system knows another.
create function accounts._belongings(people uuid[]) returns jsonb language plpgsql as $$
#variable_conflict use_variable
declare
    f     record;
    made  jsonb;
    found jsonb;
begin
    made := jsonb_build_object(
        'jobs', (select count(*) from queue.job j join unnest(people) p
                 on j.bucket = kernel.bucket_of(p) and j.account_id = p),
        'holds', (select count(*) from ledger.hold h join unnest(people) p
                  on h.bucket = kernel.bucket_of(p) and h.account_id = p
                  where h.status = 'OPEN' and h.expires_at > kernel.now()));
    for f in select * from accounts._hooks('_belongings') h(called) loop
        execute format('select jsonb_object_agg(x.what, x.n) from %s($1) x', f.called)
        into found using people;
        made := made || coalesce(found, '{}');
    end loop;
    return made;
end $$;

-- The functions of this name that other schemas of ours have.
create function accounts._hooks(named text) returns setof text language sql stable as $$
    select format('%I.%I', n.nspname, p.proname)
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where p.proname = named and n.nspname <> 'accounts'
      and n.nspname in (select split_part(m.entity, '.', 1) from transitions.machine m)
    order by n.nspname
$$;
