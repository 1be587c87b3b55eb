-- Accounts: one account per person however many requests arrive at once, one wallet, one welcome
-- bonus, ever.
--
-- The hard part is the first call, made fifty times at once. The identity row decides: one call
-- inserts it and makes the account, the others wait on its unique key and find it. No lock is taken
-- for somebody who is known; that path reads, and is one statement.
--
-- A device proves itself by a secret that the client made and sends from the first call on. It is
-- registered with the identity, in the same insert, so parallel first calls agree on it.

select transitions.declare('account', 'accounts.account', $$
    ACTIVE, LINKED, ERASED
    link:  ACTIVE → LINKED (its person)
    erase: ACTIVE | LINKED → ERASED (its person, admin)
$$);

-- Stable, as convert_to is: declared any firmer it could not be inlined, and was called row by row.
create function accounts._bucket(kind text, subject text) returns smallint
language sql stable parallel safe
return get_byte(sha256(convert_to(kind || ':' || subject, 'UTF8')), 0)::smallint;

-- Equal without telling by the time it takes how much of it is equal: what is compared are hashes
-- with a salt that nobody knows.
create function accounts._same(a bytea, b bytea) returns boolean language plpgsql as $$
declare
    salt bytea := uuid_send(gen_random_uuid());
begin
    return sha256(salt || a) = sha256(salt || b);
end $$;

-- What is known of identities (only of those at the positions `ords`, where given), in one read,
-- which becomes part of whoever asks, so he is who plans it; account_id is null for an unknown one.
-- A linked identity leads to the account that its own has become an alias of.
create function accounts._find(kinds text[], subjects text[], ords int[] default null)
returns table (ord int, account_id uuid, status text, role text, name text, locale text,
               time_zone text, quiet_hours jsonb, created_at timestamptz, balance bigint,
               held bigint, family uuid[], welcomed boolean, secret_hash bytea,
               linked_at timestamptz, home smallint)
language sql stable as $$
    select u.ord::int, a.id, a.status, a.role, a.name, a.locale, a.time_zone, a.quiet_hours,
           a.created_at, w.balance, w.held,
           a.id || array(select x.id from accounts.account x where x.alias_of = a.id order by x.id),
           -- Not `exists`: asked of several, that may become one look at everybody's entries.
           w.account_id is not null and (not a.welcome_due or (
               select e.seq from ledger.entry e where e.bucket = a.bucket and e.account_id = a.id
               and e.cause = 'grant:welcome' and e.kind = 'grant' limit 1) is not null),
           i.secret_hash, i.linked_at, accounts._bucket(u.kind, u.subject)
    -- Each `limit 1` forbids to read a table whole, which looks free while it was seen empty.
    from unnest(kinds, subjects) with ordinality as u(kind, subject, ord)
    left join lateral (
        select * from accounts.identity x where x.bucket = accounts._bucket(u.kind, u.subject)
        and x.kind = u.kind and x.subject = u.subject limit 1) i on true
    left join lateral (
        select x.id, x.alias_of from accounts.account x
        where x.bucket = kernel.bucket_of(i.account_id) and x.id = i.account_id limit 1) o on true
    left join lateral (
        select * from accounts.account x
        where x.bucket = kernel.bucket_of(coalesce(o.alias_of, o.id))
        and x.id = coalesce(o.alias_of, o.id) limit 1) a on true
    left join lateral (
        select * from ledger.wallet x where x.bucket = a.bucket and x.account_id = a.id
        and x.asset = 'crystal' limit 1) w on true
    where coalesce(u.ord = any (ords), true)
    order by u.kind, u.subject, u.ord
$$;

-- Signs people in by identities that were verified outside; whoever is new gets his account. One
-- statement either way. Outcomes: ok, device_secret_required, device_secret_invalid, device_linked,
-- rate_limited (unknown, and may_create is false). `secrets` are hashes; `required` says whether a
-- device needs one. `impersonators` are those who look through a person's eyes, in `sessions`.
create function accounts.sign_in(
    kinds text[], subjects text[], names text[], secrets bytea[], required boolean[],
    may_create boolean[], impersonators text[], sessions text[], wait boolean default true)
returns table (ord int, code text, account_id uuid, created boolean, status text, role text,
               name text, locale text, time_zone text, quiet_hours jsonb, created_at timestamptz,
               balance bigint, held bigint, family uuid[], welcomed boolean)
language plpgsql as $$
#variable_conflict use_column
declare
    f     record;
    r     record;
    n     int;
    todo  int[];        -- null: all of them
    later int[];        -- who is unknown, and will be registered
    homes smallint[];   -- there
begin
    loop
        later := '{}'; homes := '{}';
        for f in select * from accounts._find(kinds, subjects, todo) loop
            n := f.ord;
            code := null;
            if f.account_id is null then
                code := case when not may_create[n] then 'rate_limited'
                             when kinds[n] = 'device' and secrets[n] is null and required[n]
                             then 'device_secret_required' end;
                if code is null then
                    later := later || n; homes := homes || f.home;
                    continue;
                end if;
            elsif kinds[n] = 'device' then
                code := accounts._judge_device(subjects[n], secrets[n], required[n],
                                               f.secret_hash, f.linked_at);
            end if;
            if code is null and not f.welcomed then
                perform accounts._make_good(f.account_id);
                select * into f from accounts._find(array[kinds[n]], array[subjects[n]]);
            end if;
            if code is null and impersonators[n] is not null then
                perform accounts._trace_impersonator(f.account_id, impersonators[n], sessions[n]);
            end if;
            ord := n; created := false;
            if code is not null then        -- of whom it is not, nothing is told
                select * into f from accounts._find('{}', '{}');
            end if;
            code := coalesce(code, 'ok');
            account_id := f.account_id; status := f.status; role := f.role; name := f.name;
            locale := f.locale; time_zone := f.time_zone; quiet_hours := f.quiet_hours;
            created_at := f.created_at; balance := f.balance; held := f.held;
            family := f.family; welcomed := f.welcomed;
            return next;
        end loop;
        exit when later = '{}';
        r := accounts._register(kinds, subjects, names, secrets, later, homes, impersonators,
                                sessions);
        return query
        select u.ord, 'ok', u.id, true, 'ACTIVE', 'user', names[u.ord], 'en', 'UTC', null::jsonb,
               r.moment, case when u.due then coalesce(r.bonus, 0) else 0 end, 0::bigint,
               array[u.id], not u.due or r.bonus is not null
        from unnest(r.made, r.ids, r.due) as u(ord, id, due);
        -- Whoever is left was named twice, or somebody was faster.
        exit when cardinality(r.made) = cardinality(later);
        todo := array(select u from unnest(later) u where u <> all (r.made));
    end loop;
end $$;
select kernel.plan_by_index('accounts.sign_in');

-- Registers newcomers, in their order, unless somebody was faster; returns the positions of those
-- it made, their ids, to whom the bonus was due, and what it was (null: it could not be paid). An
-- account is born in its identity's bucket. A person who was here before and was erased gets no
-- second bonus. What the accounts need is there before they are: the insert trigger, which makes it
-- for whoever inserts an account by himself, finds nothing missing.
create function accounts._register(
    kinds text[], subjects text[], names text[], secrets bytea[], ords int[], homes smallint[],
    impersonators text[], sessions text[], out made int[], out ids uuid[], out due boolean[],
    out bonus bigint, out moment timestamptz)
language plpgsql as $$
#variable_conflict use_variable
declare
    seed    kernel.seed := kernel.new_seed();
    newborn bigint;
begin
    moment := kernel.now();
    made := ords;
    ids := array(select kernel.nth_id(seed.high, seed.low, u.n, u.home)
                 from unnest(homes) with ordinality as u(home, n));
    insert into accounts.identity (bucket, kind, subject, account_id, secret_hash, created_at)
    select u.home, kinds[u.ord], subjects[u.ord], u.id, secrets[u.ord], moment
    from unnest(made, ids, homes) as u(ord, id, home)
    on conflict on constraint identity_pkey do nothing;
    get diagnostics newborn = row_count;
    if newborn < cardinality(ords) then
        select coalesce(array_agg(u.ord), '{}'), array_agg(u.id), array_agg(u.home)
        into made, ids, homes
        from unnest(made, ids, homes) as u(ord, id, home)
        join accounts.identity i on i.bucket = u.home and i.kind = kinds[u.ord]
             and i.subject = subjects[u.ord] and i.account_id = u.id;
        if made = '{}' then
            return;
        end if;
    end if;
    due := array(
        select (select p.hash from accounts.past_person p where p.bucket = u.home
                and p.hash = accounts._hash(k.key, kinds[u.ord], subjects[u.ord])) is null
        from accounts._key k, unnest(made, homes) as u(ord, home));
    bonus := accounts._equip(ids, due, moment);
    insert into accounts.account (bucket, id, status, role, name, locale, time_zone, created_at,
                                  welcome_due)
    select kernel.bucket_of(u.id), u.id, 'ACTIVE', 'user', names[u.ord], 'en', 'UTC', moment, u.due
    from unnest(ids, made, due) as u(id, ord, due);
    if cardinality(array_remove(impersonators, null)) > 0 then
        perform accounts._trace_impersonator(u.id, impersonators[u.ord], sessions[u.ord])
        from unnest(ids, made) as u(id, ord) where impersonators[u.ord] is not null;
    end if;
end $$;

-- Wallet, stream and reader of new accounts, and the bonus of those to whom it is due; returns the
-- bonus. A bonus that fails (null then) aborts no sign-up: the wallets begin empty, and it is made
-- good at the next occasion.
create function accounts._equip(ids uuid[], due boolean[], moment timestamptz)
returns bigint language plpgsql as $$
#variable_conflict use_variable
declare
    bonus bigint;
begin
    perform outbox._open(ids);
    begin
        bonus := kernel.setting_number('welcome_bonus');
        perform ledger._open(ids, 'crystal', bonus, due, 'welcome', 'bonus', 'grant:welcome',
                             moment);
    exception when others then
        raise warning 'welcome bonus of % accounts not paid yet: % (%)', cardinality(ids),
            sqlerrm, sqlstate;
        perform ledger._open(ids, 'crystal', 0, due, 'welcome', 'bonus', 'grant:welcome', moment);
        return null;
    end;
    return bonus;
end $$;

-- Of an identity, under the key that only the verbs may read.
create function accounts._hash(key bytea, kind text, subject text) returns bytea
language sql stable parallel safe
return sha256(key || sha256(key || convert_to(kind || ':' || subject, 'UTF8')));

create function accounts._was_here(kind text, subject text) returns boolean
language plpgsql as $$
begin
    return exists (select from accounts.past_person p
                   where p.bucket = accounts._bucket(kind, subject)
                     and p.hash = accounts._hash((select k.key from accounts._key k), kind,
                                                 subject));
end $$;

-- Null when the device may pass. One that was known by its id alone registers the first secret
-- that it brings.
create function accounts._judge_device(
    device text, secret bytea, required boolean, registered bytea, linked_at timestamptz)
returns text language plpgsql as $$
#variable_conflict use_variable
begin
    if registered is null and secret is not null then
        update accounts.identity i set secret_hash = secret
        where i.bucket = accounts._bucket('device', device) and i.kind = 'device'
          and i.subject = device and i.secret_hash is null;
        select i.secret_hash into registered from accounts.identity i
        where i.bucket = accounts._bucket('device', device) and i.kind = 'device'
          and i.subject = device;
    end if;
    return case
        when secret is null and (required or registered is not null) then 'device_secret_required'
        when secret is not null and not accounts._same(secret, registered)
        then 'device_secret_invalid'
        when linked_at is not null then 'device_linked' end;
end $$;

-- Keyed 'grant:welcome' on the person: never on a text that can be renamed or translated.
create function accounts._pay_welcome_bonus(account uuid, moment timestamptz)
returns bigint language plpgsql as $$
declare
    bonus bigint := kernel.setting_number('welcome_bonus');
begin
    if bonus > 0 then
        return ledger._grant(account, 'crystal', bonus, 'welcome', 'bonus', 'grant:welcome',
                             moment);
    end if;
    return null;
end $$;

-- For accounts made before there were bonuses (or wallets): what is missing is made good, once.
create function accounts._make_good(account uuid) returns void language plpgsql as $$
declare
    home smallint := kernel.bucket_of(account);
begin
    insert into ledger.wallet (bucket, account_id, asset) values (home, account, 'crystal')
    on conflict do nothing;
    insert into outbox.stream (bucket, stream) values (home, account) on conflict do nothing;
    if exists (select from accounts.account a
               where a.bucket = home and a.id = account and a.welcome_due) then
        perform ledger._lock(array[account], true);
        perform accounts._pay_welcome_bonus(account, kernel.now());
    end if;
exception when others then
    raise warning 'welcome bonus of account % not paid: % (%)', account, sqlerrm, sqlstate;
end $$;

-- Pays the welcome bonus of an account that never had one, making its wallet where that is missing
-- too: one statement. True when the bonus has been paid, now or before.
create function accounts.ensure_welcome_bonus(account uuid) returns boolean
language plpgsql as $$
begin
    if not exists (select from accounts.account a where a.bucket = kernel.bucket_of(account)
                   and a.id = account and a.status = 'ACTIVE') then
        return null;
    end if;
    perform accounts._make_good(account);
    return exists (select from ledger.entry e where e.bucket = kernel.bucket_of(account)
                   and e.account_id = account and e.cause = 'grant:welcome' and e.kind = 'grant');
end $$;

-- Somebody looks through a person's eyes: once a session, with both ids.
create function accounts._trace_impersonator(account uuid, impersonator text, session text)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    insert into audit.event (bucket, entity_id, id, entity, action, actor, new_value, at)
    select kernel.bucket_of(account), account, kernel.new_id(kernel.bucket_of(account)),
           'account', 'accounts.impersonate', impersonator, session, kernel.now()
    where not exists (
        select from audit.event e
        where e.bucket = kernel.bucket_of(account) and e.entity_id = account
          and e.action = 'accounts.impersonate' and e.actor = impersonator
          and e.new_value = session);
end $$;

-- One account, with the aliases that belong to it.
create function accounts.get(account uuid)
returns table (account_id uuid, status text, role text, name text, locale text, time_zone text,
               quiet_hours jsonb, created_at timestamptz, balance bigint, held bigint,
               family uuid[])
language sql stable as $$
    select a.id, a.status, a.role, a.name, a.locale, a.time_zone, a.quiet_hours, a.created_at,
           w.balance, w.held,
           a.id || array(select x.id from accounts.account x where x.alias_of = a.id order by x.id)
    from accounts.account a
    join ledger.wallet w on w.bucket = a.bucket and w.account_id = a.id and w.asset = 'crystal'
    where a.bucket = kernel.bucket_of(account) and a.id = account
$$;

-- Changes what a person says about himself; what is null in the arguments stays as it is.
create function accounts.describe(account uuid, changes jsonb)
returns text language plpgsql as $$
begin
    update accounts.account a
    set name = case when changes ? 'name' then changes ->> 'name' else a.name end,
        locale = coalesce(changes ->> 'locale', a.locale),
        time_zone = coalesce(changes ->> 'time_zone', a.time_zone),
        quiet_hours = case when changes ? 'quiet_hours'
                           then nullif(changes -> 'quiet_hours', 'null') else a.quiet_hours end,
        version = a.version + 1
    where a.bucket = kernel.bucket_of(account) and a.id = account and a.status = 'ACTIVE';
    return case when found then 'ok' else 'not_found' end;
end $$;
