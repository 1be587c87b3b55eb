-- Accounts: one account per person however many requests arrive at once, one wallet, one welcome
-- bonus, ever.

select transitions.declare('account', 'accounts.account', $$
    ACTIVE, LINKED, ERASED
    link:  ACTIVE → LINKED (its person)
    erase: ACTIVE | LINKED → ERASED (its person, admin)
$$);

-- Keyed 'grant:welcome' on the person: never on a text that can be renamed or translated.
create function accounts._pay_welcome_bonus(account uuid, moment timestamptz)
returns bigint language plpgsql as $$
begin
    return ledger._grant(account, 'crystal', kernel.setting_number('welcome_bonus'), 'welcome',
                         'bonus', 'grant:welcome', moment);
end $$;

create function accounts._bucket(kind text, subject text) returns smallint
language sql immutable parallel safe
return get_byte(sha256(convert_to(kind || ':' || subject, 'UTF8')), 0)::smallint;

-- Signs somebody in by an identity that has been verified outside. One round trip whether the
-- account is new or old. Parallel first calls: the identity row decides, one makes the account,
-- the others wait on its unique key and find it.
create function accounts.sign_in(kind text, subject text, called text default null)
returns table (account_id uuid, created boolean, status text, role text, name text, locale text,
               time_zone text, created_at timestamptz, balance bigint, held bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    home   smallint := accounts._bucket(sign_in.kind, sign_in.subject);
    known  uuid;
    fresh  uuid;
begin
    select i.account_id into known from accounts.identity i
    where i.bucket = home and i.kind = sign_in.kind and i.subject = sign_in.subject;
    if known is null then
        fresh := kernel.new_id(home);
        insert into accounts.identity (bucket, kind, subject, account_id, created_at)
        values (home, sign_in.kind, sign_in.subject, fresh, kernel.now())
        on conflict on constraint identity_pkey do nothing;
        if found then
            insert into accounts.account (bucket, id, name) values (home, fresh, called);
            known := fresh;
        else
            select i.account_id into strict known from accounts.identity i
            where i.bucket = home and i.kind = sign_in.kind and i.subject = sign_in.subject;
        end if;
    end if;
    return query
    select a.id, a.id = fresh, a.status, a.role, a.name, a.locale, a.time_zone, a.created_at,
           w.balance, w.held
    from accounts.account a
    join ledger.wallet w on w.bucket = a.bucket and w.account_id = a.id and w.asset = 'crystal'
    where a.bucket = kernel.bucket_of(known) and a.id = known;
end $$;

-- One account with its wallet.
create function accounts.get(account uuid)
returns table (account_id uuid, status text, role text, name text, locale text, time_zone text,
               created_at timestamptz, balance bigint, held bigint)
language sql stable as $$
    select a.id, a.status, a.role, a.name, a.locale, a.time_zone, a.created_at, w.balance, w.held
    from accounts.account a
    join ledger.wallet w on w.bucket = a.bucket and w.account_id = a.id and w.asset = 'crystal'
    where a.bucket = kernel.bucket_of(account) and a.id = account
$$;

-- A role is kept in the database; no token's claim raises it. Owner only: see `holdfast role`.
create function accounts._set_role(account uuid, new_role text, actor text, request text)
returns text language plpgsql as $$
declare
    before text;
begin
    select a.role into before from accounts.account a
    where a.bucket = kernel.bucket_of(account) and a.id = account for update;
    if before is null then
        return 'not_found';
    end if;
    update accounts.account a set role = new_role, version = a.version + 1
    where a.bucket = kernel.bucket_of(account) and a.id = account and a.role <> new_role;
    if found then
        insert into audit.event (bucket, entity_id, id, entity, action, actor, old_value,
                                 new_value, request_id, at)
        values (kernel.bucket_of(account), account, kernel.new_id(kernel.bucket_of(account)),
                'account', 'accounts.set_role', actor, before, new_role, request, kernel.now());
    end if;
    return 'ok';
end $$;
